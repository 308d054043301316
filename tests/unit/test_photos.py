import subprocess
import sys

import pytest
from PIL import Image

from semlink.vision.photos import PhotosError, find_photos


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "c.webp", "notes.txt", "d.jpeg"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "album.png").mkdir()
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_a_file_is_itself_whatever_its_name(tmp_path):
    odd = tmp_path / "no suffix, but a comma"
    odd.write_bytes(b"")
    assert find_photos([str(odd)]) == [odd]


def test_a_folder_is_its_pictures_in_the_order_of_their_names(folder):
    assert names(find_photos([str(folder)])) == ["a.JPG", "b.png", "c.webp", "d.jpeg"]


def test_several_sources_keep_their_order(folder):
    found = find_photos([str(folder / "b.png"), "coffee", str(folder), "chelsea"])
    assert names(found) == ["b.png", "coffee.png", "a.JPG", "b.png", "c.webp", "d.jpeg", "chelsea.png"]


def test_scikit_images_photographs_are_found_by_name_without_importing_it():
    for name in ("chelsea", "coffee", "astronaut"):
        (path,) = find_photos([name])
        with Image.open(path) as photo:
            assert min(photo.size) >= 224
    code = (
        "import sys; from semlink.vision.photos import find_photos; find_photos(['chelsea']); print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"skimage", "PIL", "numpy"} & set(loaded)


def test_a_file_goes_before_a_photograph_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chelsea").write_bytes(b"")
    assert [path.resolve() for path in find_photos(["chelsea"])] == [tmp_path / "chelsea"]


def test_what_is_not_there_is_an_error_that_says_what_is():
    with pytest.raises(PhotosError, match=r"nosuch is no file, no folder and none of .*: .*chelsea, .*coffee"):
        find_photos(["chelsea", "nosuch"])


def test_a_folder_without_pictures_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(PhotosError, match=r"holds no pictures \(\.jpg, \.jpeg, \.png, \.webp\)"):
        find_photos([str(tmp_path)])
