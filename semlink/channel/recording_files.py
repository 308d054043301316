"""Files of measured channels: H as .npy or .npz, taps as .npz, an SNR trace as CSV, read within bounds.

- .npy: H, complex, (frames, subcarriers, receive, transmit), or one frame's without the first dimension.
- .npz: `H` as above, and `spacing_hz` (15000 where there is none). Or `taps`, complex, (frames, taps, receive,
  transmit), or one frame's, with `sample_rate` in Hz, tap l being l/sample_rate late, or with `delays` of each tap
  in seconds, or both; turned into H on `subcarriers` (784) of `spacing_hz` (15000).
- .csv: columns `frame` (counted from 0) or `time` (in seconds), and `snr_db`. With `frame`, an SNR holds until the
  next row's frame; with `time`, every row is one frame's, in the order of time.

Whatever a file says of its size is checked before room is made for it, and nothing in it is executed.
"""

import csv
import math
import os
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from semlink.channel.recordings import (
    SPACING_HZ,
    SUBCARRIERS,
    ChannelMatrices,
    Recording,
    SnrTrace,
    frequency_response,
)
from semlink.checks import finite_vector

MAX_BYTES = 256 << 20
"""Of the arrays in a file, and of H that is made of taps."""
MAX_CSV_BYTES = 16 << 20
MAX_MEMBERS = 16
"""Arrays in an .npz file."""
H_KEYS = frozenset({"H", "spacing_hz"})
TAP_KEYS = frozenset({"taps", "sample_rate", "delays", "subcarriers", "spacing_hz"})
_held: dict[Path, Recording] = {}
FORMATS = ".npy or .npz with H, .npz with taps, .csv with an SNR trace"


def read_recording(path: Path) -> Recording:
    """The measured channel in a file, see the module; what was read stays in memory until the file is changed.

    Raises:
        ValueError: it cannot be read, or is no such file; the message names the file and says what to do.
    """
    if path in _held:
        return _held[path]
    try:
        about = path.stat()
        if not path.is_file():
            raise ValueError(f"it is no file; give {FORMATS}")
        return _read(path, (about.st_mtime_ns, about.st_size, about.st_ino))
    except OSError as error:
        raise ValueError(f"channel file {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"channel file {path}: {error}") from None


def hold_recording(path: Path) -> None:
    """Reads a file once for as long as this process lives, whatever becomes of the file; see `read_recording`."""
    _held[path] = read_recording(path)


@lru_cache(4)
def _read(path: Path, version: tuple[int, ...]) -> Recording:
    """`version`: what tells a changed file from the one that was read."""
    match path.suffix.lower():
        case ".npy":
            with path.open("rb") as file:
                return ChannelMatrices(_array(file, path.name, os.fstat(file.fileno()).st_size))
        case ".npz":
            return _from_arrays(_arrays(path))
        case ".csv":
            return _trace(path)
        case suffix:
            raise ValueError(f"its name must end in {FORMATS}, not {suffix or 'nothing'}")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise ValueError(f"it must hold at most {MAX_MEMBERS} arrays, not {len(members)}")
            if (declared := sum(member.file_size for member in members)) > MAX_BYTES:
                raise ValueError(_too_large(declared, MAX_BYTES))
            arrays = {}
            for member in members:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
                    raise ValueError("it must be written by numpy.savez or numpy.savez_compressed")
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    arrays[name] = _array(file, name, member.file_size)
            return arrays
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise ValueError(f"it is no .npz file that can be read ({error}): write it with numpy.savez") from None


def _array(file: IO[bytes], name: str, size: int) -> NDArray[Any]:
    """The array of a file in NumPy's format of `size` bytes, whose header is believed in nothing."""
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"version {version} of NumPy's format is not read here")
        shape, fortran_order, dtype = read_header(file)
    except (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name} is no array in NumPy's format ({error}): write it with numpy.save") from None
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are not read: save it as an array of numbers")
    count, left = math.prod(shape), size - file.tell()
    if count * dtype.itemsize > MAX_BYTES:
        raise ValueError(_too_large(count * dtype.itemsize, MAX_BYTES))
    if count * dtype.itemsize != left:
        raise ValueError(f"{name} says that it has {count * dtype.itemsize} bytes, and has {left}: save it again")
    data = file.read(left)
    if len(data) != left:
        raise ValueError(f"{name} breaks off after {len(data)} of {left} bytes: save it again")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> ChannelMatrices:
    known = H_KEYS if "H" in arrays else TAP_KEYS
    if not {"H", "taps"} & arrays.keys() or arrays.keys() - known:
        raise ValueError(
            "it must have the keys H and, if wanted, spacing_hz; or taps, sample_rate or delays, and if wanted "
            f"subcarriers and spacing_hz; not {', '.join(sorted(arrays))[:200] or 'none'}"
        )
    spacing_hz = _number(arrays, "spacing_hz", SPACING_HZ)
    if "H" in arrays:
        return ChannelMatrices(arrays["H"], spacing_hz)
    taps, subcarriers = arrays["taps"], int(_number(arrays, "subcarriers", SUBCARRIERS))
    if subcarriers != _number(arrays, "subcarriers", SUBCARRIERS):
        raise ValueError(f"subcarriers must be an integer, not {arrays['subcarriers'].item()}")
    if taps.ndim not in (3, 4) or taps.size == 0:
        raise ValueError(f"taps must have shape (frames, taps, receive, transmit), not {taps.shape}")
    if (room := taps.size // taps.shape[-3] * max(subcarriers, 1) * 16) > MAX_BYTES:
        raise ValueError(_too_large(room, MAX_BYTES))
    sample_rate = _number(arrays, "sample_rate", math.nan)
    if "delays" in arrays:
        delays = finite_vector("delays", arrays["delays"])
    elif "sample_rate" in arrays:
        delays = np.arange(taps.shape[-3]) / sample_rate
    else:
        raise ValueError("taps need sample_rate in Hz, or the delays of each in seconds")
    if "sample_rate" in arrays and sample_rate < (band := subcarriers * spacing_hz) * (1 - 1e-9):
        raise ValueError(
            f"{subcarriers} subcarriers of {spacing_hz:g} Hz take {band:g} Hz, more than the sample_rate of "
            f"{sample_rate:g} Hz knows of: give fewer subcarriers, as `subcarriers`"
        )
    return ChannelMatrices(
        frequency_response(taps, delays, subcarriers=subcarriers, spacing_hz=spacing_hz), spacing_hz
    )


def _number(arrays: dict[str, NDArray[Any]], key: str, default: float) -> float:
    """The one positive number of a key."""
    if key not in arrays:
        return default
    value = arrays[key]
    if value.size != 1 or value.dtype.kind not in "iuf" or not 0 < float(value.item()) < math.inf:
        raise ValueError(f"{key} must be one number above 0, not {value.dtype} of shape {value.shape}")
    return float(value.item())


def _trace(path: Path) -> SnrTrace:
    if (size := path.stat().st_size) > MAX_CSV_BYTES:
        raise ValueError(_too_large(size, MAX_CSV_BYTES))
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = csv.reader(file, strict=True)
            header = [name.strip() for name in next(rows, [])]
            if header not in (["frame", "snr_db"], ["time", "snr_db"]):
                raise ValueError(
                    f"its first line must be frame,snr_db or time,snr_db, not {','.join(header)[:80]!r}"
                )
            numbers = [_row(row, rows.line_num) for row in rows if row]
        except csv.Error as error:
            raise ValueError(f"line {rows.line_num}: {error}") from None
        except UnicodeDecodeError:
            raise ValueError("it is not text in UTF-8") from None
    if not numbers:
        raise ValueError("it has no rows below its first line")
    when, snr_db = np.array(numbers).T
    if header[0] == "time":
        if (np.diff(when) <= 0).any():
            raise ValueError("time must ascend from row to row")
        return SnrTrace(snr_db)
    if (when != np.floor(when)).any() or np.abs(when).max() > 2**53:
        raise ValueError("frame must be integers")
    return SnrTrace(snr_db, when.astype(np.int64))


def _row(row: list[str], line: int) -> tuple[float, float]:
    try:
        when, snr_db = map(float, row)
    except ValueError:
        raise ValueError(f"line {line}: it must be two numbers, not {','.join(row)[:80]!r}") from None
    if not (math.isfinite(when) and math.isfinite(snr_db)):
        raise ValueError(f"line {line}: its numbers must be finite, not {','.join(row)[:80]!r}")
    return when, snr_db


def _too_large(declared: int, most: int) -> str:
    return (
        f"it takes {declared / 2**20:.0f} MiB, at most {most >> 20} MiB are read: take fewer frames or subcarriers"
    )
