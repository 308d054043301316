"""A site that takes nobody without a certificate and an API key: its files, a server, an emulator before it."""

import contextlib
from pathlib import Path

import trustme
from processes import Running, running
from stub_server import GREY

KEY, OTHER = "correct-horse-battery-staple", "another-horse-battery-staple"
"""The key that is accepted, and one that is not."""


def make_site(folder: Path) -> Path:
    """Certificates of one authority (for `here` and `studio`), that of a stranger, and keys in files."""
    site, stranger = trustme.CA(), trustme.CA()
    site.cert_pem.write_to_path(folder / "authority.pem")
    stranger.cert_pem.write_to_path(folder / "stranger.pem")
    for name in ("here", "studio"):
        issued = site.issue_cert("localhost", "127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    for name, text in (("keys", f"studio {KEY}\n"), ("key", KEY), ("other", OTHER)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return folder


def listening(site: Path) -> list[object]:
    """Flags of a process that takes nobody without a certificate, nor without a key."""
    return [
        *("--tls-certificate", site / "here.pem", "--tls-key", site / "here.key"),
        *("--tls-client-authority", site / "authority.pem", "--api-keys-file", site / "keys"),
    ]


def grey_server(site: Path) -> contextlib.AbstractContextManager[Running]:
    return running("-c", GREY, *listening(site))


def emulator(
    site: Path, upstream: str, *flags: object, ports: tuple[int, int] = (0, 0)
) -> contextlib.AbstractContextManager[Running]:
    return running(
        *("-m", "channel_emulator", "--upstream", upstream, *listening(site), *flags),
        *("--tls-server-authority", site / "authority.pem"),
        ports=ports,
    )


def addresses(process: Running) -> str:
    """As the studio takes them."""
    return f"{process.grpc_address},{process.http_address}"
