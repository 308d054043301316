import csv
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from typer.testing import CliRunner

from cli.main import app
from experiments.data import ImageSetError, cifar, unpack
from experiments.data.image_sets import load_image_set
from semlink.vision.images import open_image


def pictures(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def records(images: NDArray[np.uint8], *labels: list[int]) -> bytes:
    """Labels, then all red values, then green, then blue, as CIFAR's page describes a record."""
    return b"".join(
        bytes(numbers) + b"".join(image[..., channel].tobytes() for channel in range(3))
        for image, *numbers in zip(images, *labels, strict=True)
    )


TRAIN, TEST = pictures(6, 0), pictures(3, 1)
COARSE, FINE = [1, 0, 1, 0, 1, 0], [0, 1, 2, 0, 1, 2]


@pytest.fixture
def cifar_100(tmp_path) -> Path:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("apple\nbee\nsea\n")
    (folder / "coarse_label_names.txt").write_text("food\nother\n")
    (folder / "train.bin").write_bytes(records(TRAIN, COARSE, FINE))
    (folder / "test.bin").write_bytes(records(TEST, [0, 0, 0], [2, 1, 0]))
    return folder


def unpacked(source: Path, folder: Path) -> int:
    with Progress(disable=True) as progress:
        return unpack.unpack(source, folder, progress)


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(open_image(path))


class TestCifar:
    def test_100_becomes_pictures_with_their_fine_labels(self, cifar_100, tmp_path):
        assert unpacked(cifar_100, tmp_path / "out") == 9
        data = load_image_set(tmp_path / "out")
        assert data.classes == ("apple", "bee", "sea")
        assert [example.label for example in data.examples] == [0, 1, 2, 0, 1, 2, 2, 1, 0]
        test, train = data.where("split=test")
        np.testing.assert_array_equal([pixels(example.path) for example in train.examples], TRAIN)
        np.testing.assert_array_equal([pixels(example.path) for example in test.examples], TEST)

    def test_10_has_five_batches_and_a_test(self, tmp_path):
        (tmp_path / "batches.meta.txt").write_text("cat\ndog\n\n")
        for number, name in enumerate([*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]):
            (tmp_path / name).write_bytes(records(pictures(2, number), [0, 1]))
        assert unpacked(tmp_path, tmp_path / "out") == 12
        test, train = load_image_set(tmp_path / "out").where("split=test")
        assert len(train.examples) == 10
        np.testing.assert_array_equal(pixels(train.examples[4].path), pictures(2, 2)[0])
        np.testing.assert_array_equal(pixels(test.examples[1].path), pictures(2, 5)[1])

    def test_the_manifest_comes_last_and_is_never_replaced(self, cifar_100, tmp_path, monkeypatch):
        def full(*arguments: object) -> None:
            raise OSError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "save", full)
            with pytest.raises(OSError, match="no space"):
                unpacked(cifar_100, tmp_path / "out")
        assert not (tmp_path / "out" / "manifest.csv").exists()
        assert unpacked(cifar_100, tmp_path / "out") == 9
        assert not list((tmp_path / "out").glob("*.partial"))
        with pytest.raises(ImageSetError, match="already"):
            unpacked(cifar_100, tmp_path / "out")

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("fine_label_names.txt", b"a\na\n", "different"),
            ("fine_label_names.txt", b"", "different"),
            ("fine_label_names.txt", b"a\nb\n", "label 2 has no name"),
            ("train.bin", b"", "records of 3074"),
            ("train.bin", records(TRAIN, FINE), "records of 3074"),
            ("train.bin", records(TRAIN, COARSE, FINE)[:-1], "records of 3074"),
            ("test.bin", records(TEST, [0, 0, 0], [0, 1, 255]), "label 255 has no name"),
        ],
    )
    def test_other_contents_are_refused(self, cifar_100, tmp_path, name, content, said):
        (cifar_100 / name).write_bytes(content)
        with pytest.raises(ImageSetError, match=said):
            unpacked(cifar_100, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_missing_and_large_files_are_refused(self, cifar_100, tmp_path):
        (cifar_100 / "test.bin").unlink()
        with pytest.raises(ImageSetError, match="No such file"):
            unpacked(cifar_100, tmp_path / "out")
        with (cifar_100 / "test.bin").open("wb") as file:
            file.truncate(cifar.MAX_BYTES + 1)
        with pytest.raises(ImageSetError, match="at most"):
            unpacked(cifar_100, tmp_path / "out")

    def test_class_names_are_no_paths(self, cifar_100, tmp_path):
        (cifar_100 / "fine_label_names.txt").write_text("../../../a\n/b\nc d\n")
        unpacked(cifar_100, tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"cifar-100-binary", "out"}
        assert load_image_set(tmp_path / "out").classes == ("../../../a", "/b", "c d")


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def packed(tmp_path) -> Path:
    """A manifest of two pictures, one with a mask, and no archive yet."""
    folder = tmp_path / "packed"
    folder.mkdir()
    manifest = "path,class,label,mask,split\ntest/a.png,cat,0,masks/a.png,test\ntrain/b.png,dog,1,,train\n"
    (folder / "manifest.csv").write_text(manifest)
    return folder


class TestArchives:
    @pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.xz", "w:xz"), (".tgz", "w:gz")])
    def test_what_the_manifest_names_is_extracted(self, packed, tmp_path, suffix, mode):
        with tarfile.open(packed / f"set{suffix}", mode) as tar:
            for name in ("./test/a.png", "train/b.png", "masks/a.png", "train/unnamed.png", "manifest.csv"):
                add(tar, name, name.encode())
        out = tmp_path / "out"
        assert unpacked(packed, out) == 2
        files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert files == {"manifest.csv", "test/a.png", "train/b.png", "masks/a.png"}
        assert (out / "train" / "b.png").read_bytes() == b"train/b.png"
        assert (out / "manifest.csv").read_bytes() == (packed / "manifest.csv").read_bytes()
        assert load_image_set(out).examples[0].mask == out / "masks" / "a.png"

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
    def test_links_and_devices_are_no_files(self, packed, tmp_path, kind):
        with tarfile.open(packed / "set.tar", "w") as tar:
            add(tar, "test/a.png", type=kind, linkname="../../secret")
            add(tar, "train/b.png")
            add(tar, "masks/a.png")
        with pytest.raises(ImageSetError, match=r"lacks 1 files .* test/a\.png"):
            unpacked(packed, tmp_path / "out")
        assert not (tmp_path / "out" / "manifest.csv").exists()
        assert not (tmp_path / "out" / "test").exists()

    @pytest.mark.parametrize("name", ["../escaped.png", "{folder}/escaped.png"])
    def test_nothing_is_written_outside(self, packed, tmp_path, name):
        name = name.format(folder=tmp_path)
        with (packed / "manifest.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["path", "class", "label"], [name, "cat", 0]])
        with tarfile.open(packed / "set.tar", "w") as tar:
            add(tar, name, b"outside")
        with pytest.raises(ImageSetError):
            unpacked(packed, tmp_path / "out")
        assert not list(tmp_path.rglob("escaped.png"))

    def test_archives_that_are_too_large_are_refused(self, packed, tmp_path, monkeypatch):
        with tarfile.open(packed / "set.tar", "w") as tar:
            for name in ("test/a.png", "train/b.png", "masks/a.png"):
                add(tar, name, bytes(100))
        for limit, value in (("MAX_MEMBERS", 2), ("MAX_UNPACKED_BYTES", 250)):
            with monkeypatch.context() as patch:
                patch.setattr(unpack, limit, value)
                with pytest.raises(ImageSetError, match="more than"):
                    unpacked(packed, tmp_path / limit)
            assert not (tmp_path / limit / "manifest.csv").exists()

    @pytest.mark.parametrize(
        "data", [b"", b"no archive", b"\xfd7zXZ\x00" + bytes(100), b"\x1f\x8b\x08" + bytes(100)]
    )
    def test_what_is_no_archive_is_refused(self, packed, tmp_path, data):
        (packed / "set.tar.xz").write_bytes(data)
        with pytest.raises(ImageSetError, match=r"set\.tar\.xz"):
            unpacked(packed, tmp_path / "out")

    def test_a_truncated_archive_is_refused(self, packed, tmp_path):
        with tarfile.open(packed / "set.tar.xz", "w:xz") as tar:
            for name in ("test/a.png", "train/b.png", "masks/a.png"):
                add(tar, name, os.urandom(10_000))
        whole = (packed / "set.tar.xz").read_bytes()
        (packed / "set.tar.xz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ImageSetError, match=r"set\.tar\.xz"):
            unpacked(packed, tmp_path / "out")
        assert not (tmp_path / "out" / "manifest.csv").exists()

    def test_a_folder_without_an_archive_or_with_two_is_refused(self, packed, tmp_path):
        with pytest.raises(ImageSetError, match="one archive"):
            unpacked(packed, tmp_path / "out")
        for name in ("one.tar", "two.tar"):
            (packed / name).write_bytes(b"")
        with pytest.raises(ImageSetError, match="one archive"):
            unpacked(packed, tmp_path / "out")
        with pytest.raises(ImageSetError, match="one archive"):
            unpacked(tmp_path / "nowhere", tmp_path / "out")


class TestCommand:
    def test_says_what_it_wrote(self, cifar_100, tmp_path):
        result = CliRunner().invoke(app, ["unpack", str(cifar_100), str(tmp_path / "out")])
        assert result.exit_code == 0, result.output
        assert result.stdout == f"{tmp_path}/out: 9 images, manifest.csv\n"

    def test_says_what_is_wrong_in_one_line(self, tmp_path):
        result = CliRunner().invoke(app, ["unpack", str(tmp_path), str(tmp_path / "out")])
        assert result.exit_code == 1
        (line,) = [line for line in result.stderr.splitlines() if line.strip()]
        assert line.startswith(f"semlink: {tmp_path} must be a folder")
