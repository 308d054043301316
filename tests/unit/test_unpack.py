import csv
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from typer.testing import CliRunner

from cli.main import app
from experiments.data import cifar, unpack
from experiments.data.image_sets import ImageSetError, load_image_set
from semlink.vision.images import open_image


class PythonTwo(pickle._Pickler):
    """Writes strings, bytes and NumPy's names as Python 2 did, in which CIFAR's files were written."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        short = len(data) < 256
        head = (
            pickle.SHORT_BINSTRING + bytes([len(data)])
            if short
            else pickle.BINSTRING + struct.pack("<i", len(data))
        )
        self.write(head + data)
        self.memoize(value)

    def save_global(self, obj: object, name: str | None = None) -> None:
        module = {"_reconstruct": "numpy.core.multiarray"}.get(obj.__name__, "numpy")
        self.write(pickle.GLOBAL + f"{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_string


def python_two(content: object) -> bytes:
    file = io.BytesIO()
    PythonTwo(file, protocol=2).dump(content)
    return file.getvalue()


def python_three(content: object) -> bytes:
    return pickle.dumps(content, protocol=4)


def as_bytes(content: dict) -> dict:
    """As Python 3 holds it who read it with encoding="bytes"."""

    def texts(value: object) -> object:
        if isinstance(value, list):
            return [texts(each) for each in value]
        return value.encode() if isinstance(value, str) else value

    return {texts(key): texts(value) for key, value in content.items()}


def pictures(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def rows(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One picture a row: all red values, then green, then blue, as CIFAR's page describes it."""
    return np.array([np.concatenate([image[..., channel].ravel() for channel in range(3)]) for image in images])


TRAIN, TEST = pictures(6, 0), pictures(3, 1)
META = {"fine_label_names": ["apple", "bee", "sea"], "coarse_label_names": ["food", "other"]}


def batch(images: NDArray[np.uint8], labels: list[int]) -> dict:
    names = [f"picture_{number}.png" for number in range(len(images))]
    return {"data": rows(images), "fine_labels": labels, "coarse_labels": [0] * len(images), "filenames": names}


@pytest.fixture
def cifar_100(tmp_path) -> Path:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "meta").write_bytes(python_two(META))
    (folder / "train").write_bytes(python_two(batch(TRAIN, [0, 1, 2, 0, 1, 2])))
    (folder / "test").write_bytes(python_two(batch(TEST, [2, 1, 0])))
    return folder


def unpacked(source: Path, folder: Path) -> int:
    with Progress(disable=True) as progress:
        return unpack.unpack(source, folder, progress)


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(open_image(path))


class TestCifar:
    @pytest.mark.parametrize(
        "written", [python_two, python_three, lambda content: python_three(as_bytes(content))]
    )
    def test_100_becomes_pictures_with_their_labels(self, cifar_100, tmp_path, written):
        for name, content in (("meta", META), ("train", batch(TRAIN, [0, 1, 2, 0, 1, 2]))):
            (cifar_100 / name).write_bytes(written(content))
        assert unpacked(cifar_100, tmp_path / "out") == 9
        data = load_image_set(tmp_path / "out")
        assert data.classes == ("apple", "bee", "sea")
        assert [example.label for example in data.examples] == [0, 1, 2, 0, 1, 2, 2, 1, 0]
        test, train = data.where("split=test")
        np.testing.assert_array_equal([pixels(example.path) for example in train.examples], TRAIN)
        np.testing.assert_array_equal([pixels(example.path) for example in test.examples], TEST)

    def test_10_has_five_batches_and_a_test(self, tmp_path):
        (tmp_path / "batches.meta").write_bytes(
            python_two({"label_names": ["cat", "dog"], "num_cases_per_batch": 2})
        )
        for number, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
            content = {
                "batch_label": name,
                "labels": [0, 1],
                "data": rows(pictures(2, number)),
                "filenames": ["a", "b"],
            }
            (tmp_path / name).write_bytes(python_two(content))
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
            ("meta", {"fine_label_names": ["a", "a"]}, "different"),
            ("meta", {"fine_label_names": ["a", 3]}, "different"),
            ("meta", {"names": ["a", "b"]}, "fine_label_names must be a list"),
            ("meta", ["a", "b"], "no dict"),
            ("train", batch(TRAIN, [0, 1, 2, 0, 1]), "6 whole numbers from 0 to 2"),
            ("train", batch(TRAIN, [0, 1, 2, 0, 1, 3]), "6 whole numbers from 0 to 2"),
            ("train", batch(TRAIN, [0, 1, 2, 0, 1, "2"]), "6 whole numbers"),
            ("train", {"data": "pixels", "fine_labels": []}, "data must be an array"),
            ("train", {"data": rows(TRAIN).astype(np.uint16), "fine_labels": [0] * 6}, "uint8"),
            ("train", {"data": rows(TRAIN).T, "fine_labels": [0] * 6}, "C's order"),
            ("train", {"data": rows(TRAIN)[:, :-1], "fine_labels": [0] * 6}, "N x 3072"),
            ("train", {"data": np.array([None]), "fine_labels": [0]}, "uint8"),
        ],
    )
    def test_other_contents_are_refused(self, cifar_100, tmp_path, name, content, said):
        (cifar_100 / name).write_bytes(python_two(content))
        with pytest.raises(ImageSetError, match=said):
            unpacked(cifar_100, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_missing_and_large_files_are_refused(self, cifar_100, tmp_path):
        (cifar_100 / "test").unlink()
        with pytest.raises(ImageSetError, match="No such file"):
            unpacked(cifar_100, tmp_path / "out")
        with (cifar_100 / "test").open("wb") as file:
            file.truncate(cifar.MAX_BYTES + 1)
        with pytest.raises(ImageSetError, match="at most"):
            unpacked(cifar_100, tmp_path / "out")

    def test_names_in_a_pickle_are_no_paths(self, cifar_100, tmp_path):
        (cifar_100 / "meta").write_bytes(python_two({"fine_label_names": ["../../../a", "/b", "c\nd"]}))
        unpacked(cifar_100, tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"cifar-100-python", "out"}
        assert load_image_set(tmp_path / "out").classes == ("../../../a", "/b", "c\nd")


class Malicious:
    def __init__(self, call: object, *arguments: object) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> tuple:
        return self.call


class TestHostilePickles:
    def refused(self, folder: Path, data: bytes, said: str) -> None:
        (folder / "meta").write_bytes(data)
        with pytest.raises(ImageSetError, match=said):
            cifar.read_cifar(folder)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_nothing_is_executed(self, cifar_100, tmp_path, protocol):
        mark = tmp_path / "executed"
        for bad in (Malicious(os.mkdir, str(mark)), Malicious(eval, f"open({str(mark)!r}, 'w')")):
            data = pickle.dumps({"fine_label_names": [bad]}, protocol=protocol)
            self.refused(cifar_100, data, "it names '(posix|nt|builtins|__builtin__)")
            assert not mark.exists()
            pickle.loads(data)
            assert mark.exists(), "the pickle was harmless: it proves nothing"
            mark.rmdir() if mark.is_dir() else mark.unlink()

    @pytest.mark.parametrize(
        "names", [b"numpy\nsave", b"numpy\nndarray.tofile", b"numpy.core.multiarray\nfromfile"]
    )
    def test_nothing_else_of_numpy_is_reached(self, cifar_100, names):
        self.refused(cifar_100, b"\x80\x02}X\x01\x00\x00\x00ac" + names + b"\ns.", "it names 'numpy")

    def test_what_reserves_or_nests_without_end_is_refused(self, cifar_100):
        self.refused(cifar_100, b"\x80\x02]r\xff\xff\xff\x7f.", "memory")
        self.refused(cifar_100, b"\x80\x02" + b"]" * 5000 + b".", "too many")
        self.refused(cifar_100, b"\x80\x02)" + b"\x85" * 1_000_000 + b"}" + b"0.", "too many")
        self.refused(cifar_100, b"\x80\x02](" + b"K\x01" * (cifar.MAX_INSTRUCTIONS + 1) + b"e.", "too many")

    def test_stand_ins_cannot_be_changed(self, cifar_100, tmp_path):
        """BUILD sets attributes of what it is given, also of a class."""
        self.refused(cifar_100, b"\x80\x02cnumpy\nndarray\n}U\x04rowsK\x01sb.", "__setstate__")
        self.refused(cifar_100, b"\x80\x02cnumpy\nndarray\nN}U\x04rowsK\x01s\x86b.", "__setstate__")
        (cifar_100 / "meta").write_bytes(python_two(META))
        assert unpacked(cifar_100, tmp_path / "out") == 9

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_damaged_files_are_refused_or_read(self, cifar_100, data):
        content = bytearray(python_two(META))
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (cifar_100 / "meta").write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            classes, _ = cifar.read_cifar(cifar_100)
        except ImageSetError:
            return
        assert all(isinstance(name, str) for name in classes)


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
