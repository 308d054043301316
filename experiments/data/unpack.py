"""Unpacking: CIFAR's binary release, or a tar archive, to a folder of images with a manifest.csv."""

import csv
import lzma
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from PIL import Image
from rich.progress import Progress

from experiments.data import ImageSetError
from experiments.data.cifar import CIFAR_10_NAMES, CIFAR_100_NAMES, read_cifar
from experiments.data.image_sets import ARCHIVES, load_image_set

MAX_MEMBERS = 2_000_000
MAX_UNPACKED_BYTES = 16 << 30


def unpack(source: Path, folder: Path, progress: Progress) -> int:
    """Makes of `source` a folder that `load_image_set` reads; its manifest.csv is written last, in one step.

    Args:
        source: folder of CIFAR-10's or CIFAR-100's binary release, or with a manifest.csv and beside it a tar
            archive of the images that it names.
        folder: to fill; it must not have a manifest.csv yet.
        progress: where to show how far it is.

    Returns:
        How many images it wrote.

    Raises:
        ImageSetError: `source` is neither, is malformed or too large, or `folder` has a manifest.csv.
        OSError: a file can't be read or written.
    """
    if (folder / "manifest.csv").exists():
        raise ImageSetError(f"{folder} has a manifest.csv already; give a new folder")
    if any((source / name).is_file() for name in (CIFAR_10_NAMES, CIFAR_100_NAMES)):
        return _unpack_cifar(source, folder, progress)
    archives = [path for path in source.iterdir() if path.name.endswith(ARCHIVES)] if source.is_dir() else []
    if len(archives) == 1 and (source / "manifest.csv").is_file():
        return _unpack_archive(source, archives[0], folder, progress)
    raise ImageSetError(
        f"{source} must be a folder of CIFAR's binary release (with {CIFAR_10_NAMES} or {CIFAR_100_NAMES}), or "
        f"one with a manifest.csv and one archive ({', '.join(ARCHIVES)}) beside it"
    )


def _unpack_cifar(source: Path, folder: Path, progress: Progress) -> int:
    """Writes SPLIT/LABEL/NUMBER.png of every record. Class names go into the manifest, never into paths."""
    classes, batches = read_cifar(source)
    rows: list[list[str | int]] = []
    task = progress.add_task("unpacking", total=sum(len(batch.labels) for batch in batches))
    for batch in batches:
        for pixels, label in zip(batch.pixels, batch.labels, strict=True):
            path = f"{batch.split}/{label:02}/{len(rows):05}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / path)
            rows.append([path, classes[label], label, batch.split])
            progress.advance(task)
    partial = folder / "manifest.csv.partial"
    with partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "class", "label", "split"], *rows])
    partial.replace(folder / "manifest.csv")
    return len(rows)


def _unpack_archive(source: Path, archive: Path, folder: Path, progress: Progress) -> int:
    """Extracts what the manifest names and nothing else, whatever the archive holds."""
    examples = load_image_set(source).examples
    paths = {path for example in examples for path in (example.path, example.mask) if path is not None}
    if outside := [path for path in paths if not path.is_relative_to(source)]:
        raise ImageSetError(f"{source / 'manifest.csv'} names {outside[0]}, which is not in its folder")
    wanted = {PurePosixPath(path.relative_to(source).as_posix()) for path in paths}
    folder.mkdir(parents=True, exist_ok=True)
    task = progress.add_task("unpacking", total=len(wanted))
    size = 0
    try:
        with tarfile.open(archive) as tar:
            for number, member in enumerate(tar):
                size += member.size
                if number >= MAX_MEMBERS or size > MAX_UNPACKED_BYTES:
                    raise ImageSetError(
                        f"{archive} holds more than {MAX_MEMBERS} files or {MAX_UNPACKED_BYTES} bytes"
                    )
                if PurePosixPath(member.name) in wanted and member.isfile():
                    tar.extract(member, folder, filter="data")
                    wanted.discard(PurePosixPath(member.name))
                    progress.advance(task)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        reason = str(error).partition("\n")[0].removesuffix(":")
        raise ImageSetError(f"{archive} can't be unpacked: {reason}") from error
    if wanted:
        raise ImageSetError(f"{archive} lacks {len(wanted)} files of the manifest, such as {min(wanted)}")
    partial = folder / "manifest.csv.partial"
    partial.write_bytes((source / "manifest.csv").read_bytes())
    partial.replace(folder / "manifest.csv")
    return len(examples)
