"""Linear code to start from: principal components of the picture that a token's bits predict, sent as they are.

Networks with random weights spend a pass over the pictures on finding what linear algebra finds in a second. The
bits x (as -1 and 1) of a token predict the 4 × 4 pixels y at its place by least squares, y ≈ Bx; of these
predictions the 24 principal components, the strongest first, are the real and imaginary parts of the token's 12
symbols, each divided by the fourth root of its variance, which is the best allocation of power at high SNR (Lee
and Petersen, Optimal linear coding for vector channels, 1976). The receiver's estimate of x is the linear one of
least squared error, and bits are drawn from its logistic. All that is not linear starts as a constant factor, so
training begins with this code, and goes on from there.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from semlink.access.learned.bandwidth import TOKEN_BITS, TOKENS
from semlink.access.learned.mapper import ChannelDemapper, ChannelMapper

RIDGE = 1e-3
NOISE = 0.05
"""Variance of the noise on a real part, in units of its mean power, that the estimate expects: 13 dB."""
STEEPNESS = 3.0
"""Logit for an estimate of one."""
SAMPLE = 4000
"""Pictures that it is computed from."""
PLACE = 4
"""Pixels a side of what a token stands for."""


def start_linear(
    mapper: ChannelMapper, demapper: ChannelDemapper, pixels: NDArray[np.uint8], bits: NDArray[np.uint8]
) -> None:
    """Gives networks of size "small" the weights of the linear code.

    Args:
        mapper: changed.
        demapper: changed.
        pixels: (B, 3, 32, 32) 8-bit pictures.
        bits: (B, 64, 96) their bits.
    """
    places = pixels.reshape(-1, 3, 8, PLACE, 8, PLACE).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 3 * PLACE**2)
    signs = 2 * bits.reshape(-1, TOKEN_BITS).astype(np.float64) - 1
    send, receive, mean = linear_code(signs, places / 255, 2 * mapper.link.symbols)
    with torch.no_grad():
        inverse = {}
        for network in (mapper, demapper):
            for weight in network.residual_ends():
                weight.zero_()
            network.eval()
            inverse[network] = 1 / network.ian(torch.ones(1, TOKENS, TOKEN_BITS)).mean((0, 1))
        torch.nn.init.eye_(mapper.embedding.weight).mul_(inverse[mapper])
        mapper.embedding.bias.zero_()
        mapper.head.weight.zero_()
        mapper.head.weight[:, :TOKEN_BITS] = torch.from_numpy(send)
        mapper.head.bias.copy_(torch.from_numpy(-send @ mean))
        # The demapper sees real part, imaginary part and trust of each symbol.
        demapper.embedding.weight.zero_()
        demapper.embedding.bias.zero_()
        width, symbols = demapper.embedding.weight.shape[0], mapper.link.symbols
        weight = demapper.embedding.weight.view(width, symbols, 3)
        weight[:TOKEN_BITS, :, :2] = torch.from_numpy(receive).view(TOKEN_BITS, symbols, 2)
        demapper.embedding.bias[:TOKEN_BITS] = torch.from_numpy(mean)
        torch.nn.init.eye_(demapper.head.weight).mul_(STEEPNESS * inverse[demapper][:, None])
        demapper.head.bias.zero_()


def linear_code(
    bits: NDArray[np.float64], values: NDArray[np.float64], components: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The code of bits that predict values.

    Args:
        bits: (S, n) -1 and 1.
        values: (S, m) what they stand for.
        components: to send.

    Returns:
        send (components, n), of mean square one over all components together; receive (n, components), the
        estimate of bits less their mean from noisy components; mean (n,) of the bits.
    """
    mean = bits.mean(axis=0)
    centred, wanted = bits - mean, values - values.mean(axis=0)
    covariance = centred.T @ centred / len(bits)
    ridge = RIDGE * np.eye(bits.shape[1])
    predict = np.linalg.solve(covariance + ridge, centred.T @ wanted / len(bits)).T
    variances, directions = np.linalg.eigh(predict @ covariance @ predict.T)
    strongest = np.argsort(-variances)[:components]
    scales = np.maximum(variances[strongest], 1e-12) ** -0.25
    send = scales[:, None] * (directions[:, strongest].T @ predict)
    sent = np.sum((send @ covariance) * send, axis=1)
    send /= np.sqrt(sent.mean())
    sent /= sent.mean()
    receive = covariance @ send.T / (sent + NOISE)
    return send, receive, mean
