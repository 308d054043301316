from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from experiments.data import ImageSetError
from experiments.data.image_sets import Example, load_image_set, view_groups


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture(scope="module")
def miro(tmp_path_factory) -> Path:
    """The names of MIRO's files, of two classes and six objects."""
    folder = tmp_path_factory.mktemp("data") / "MIRO"
    for name, number, view in product(("mouse", "tape_cutter"), range(1, 7), range(1, 161)):
        touch(folder / name / f"{name}_{number}_{view:03}.png")
    return folder


def of_object(folder: Path, name: str) -> dict[str, Example]:
    """Examples of one object, by view."""
    examples = load_image_set(folder).examples
    return {example.columns["view"]: example for example in examples if example.columns["object"] == name}


class TestMiro:
    def test_classes_objects_and_folds(self, miro):
        data = load_image_set(miro)
        assert data.classes == ("mouse", "tape_cutter")
        assert len(data.examples) == 2 * 6 * 160
        assert len({example.sample for example in data.examples}) == 12
        held_out, kept = data.where("fold=0")
        assert {example.columns["object"] for example in held_out.examples} == {
            *("mouse_1", "mouse_6", "tape_cutter_1", "tape_cutter_6")
        }
        parts = [{example.sample for example in part.examples} for part in (held_out, kept)]
        assert not parts[0] & parts[1]

    def test_views_of_a_group_are_a_quarter_turn_apart(self, miro):
        """Which views those are is known from its authors' scripts, where they stand for directions."""
        views = of_object(miro, "mouse_1")
        # The corners of a cube, above and below the object's middle.
        for corners in (("035", "039", "043", "047"), ("115", "119", "123", "127")):
            assert len({views[view].columns["group"] for view in corners}) == 1
            assert [views[view].columns["device"] for view in corners] == ["0", "1", "2", "3"]
        # Corners of the dodecahedron that face each other: half a turn apart.
        for one, other in (("021", "029"), ("133", "141"), ("049", "057"), ("097", "105"), ("068", "076")):
            assert views[one].columns["group"] == views[other].columns["group"]
            assert (int(views[other].columns["device"]) - int(views[one].columns["device"])) % 4 == 2
        # One turn of sixteen views.
        turn = Counter(views[f"{view:03}"].columns["group"] for view in range(65, 81))
        assert sorted(turn.values()) == [4, 4, 4, 4]
        assert not turn.keys() & {views["064"].columns["group"], views["081"].columns["group"]}

    def test_all_views_vote(self, miro):
        data = load_image_set(miro)
        groups = view_groups(data.examples)
        assert len(groups) == 12 * 40
        assert len({data.examples[first].sample for first, *_ in groups}) == 12
        for members in groups:
            assert len({data.examples[member].sample for member in members}) == 1

    def test_a_set_with_gaps_is_still_miro(self, miro, tmp_path):
        for path in miro.glob("mouse/*"):
            if path.name not in ("mouse_2_007.png", "mouse_4_160.png"):
                touch(tmp_path / "mouse" / path.name)
        data = load_image_set(tmp_path)
        assert len(data.examples) == 6 * 160 - 2
        assert all("fold" in example.columns for example in data.examples)

    @pytest.mark.parametrize("count", [16, 20])
    def test_its_renumbered_subsets_are_plain_trees(self, tmp_path, count):
        for number, view in product((1, 2), range(1, count + 1)):
            touch(tmp_path / "mouse" / f"mouse_{number}_{view:03}.png")
        data = load_image_set(tmp_path)
        assert len(data.examples) == 2 * count
        assert all(example.columns == {} for example in data.examples)

    @pytest.mark.parametrize("odd", ["mouse_1_161.png", "cat_1_001.png", "mouse.png", "mouse_1_001.jpg"])
    def test_a_tree_with_other_names_is_a_plain_tree(self, miro, tmp_path, odd):
        for path in miro.glob("mouse/mouse_1_*"):
            touch(tmp_path / "mouse" / path.name)
        touch(tmp_path / "mouse" / odd)
        data = load_image_set(tmp_path)
        assert len(data.examples) == 161
        assert all(example.columns == {} for example in data.examples)


@pytest.fixture(scope="module")
def mvp_n(tmp_path_factory) -> Path:
    """Names as MVP-N's own loaders read them: sets of four, six and nine views."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("0000", "0001"):
        for place, number in product(("0", "1"), range(4)):
            touch(folder / "train" / name / place / f"{number}_{number % 2}.png")
        for number in range(6):
            touch(folder / "valid" / name / "0" / f"{number}_1.png")
        for number in range(12):
            touch(folder / "test" / name / "0" / f"{number}_0.png")
    touch(folder / "test_list" / "test_0000_100.pkl")
    return folder


class TestMvpN:
    def test_classes_splits_and_marks(self, mvp_n):
        data = load_image_set(mvp_n)
        assert data.classes == ("0000", "0001")
        test, _ = data.where("split=test")
        assert len(test.examples) == 24
        assert {example.columns["informative"] for example in test.examples} == {"0"}
        train, _ = data.where("split=train")
        assert Counter(example.columns["informative"] for example in train.examples) == {"0": 8, "1": 8}

    def test_a_set_is_a_sample_in_train_and_a_product_elsewhere(self, mvp_n):
        samples = Counter(example.sample for example in load_image_set(mvp_n).where("label=0")[0].examples)
        assert samples == {"0/train 0": 4, "0/train 1": 4, "0/valid": 6, "0/test": 12}

    def test_views_of_a_group_are_far_apart_in_the_order_of_their_numbers(self, mvp_n):
        groups: dict[str, list[str]] = {}
        for example in load_image_set(mvp_n).where("split=test")[0].examples[:12]:
            groups.setdefault(example.columns["group"], []).append(example.path.name.partition("_")[0])
        # Twelve views: four that are three apart, 10 and 11 behind 9.
        assert sorted(groups.values()) == [["0", "3", "6", "9"], ["1", "4", "7", "10"], ["2", "5", "8", "11"]]

    def test_four_view_sets_vote(self, mvp_n):
        examples = load_image_set(mvp_n).examples
        # Of each class: two sets in train, one group of six views (two are left over), three of twelve.
        assert len(view_groups(examples)) == 2 * (2 + 1 + 3)
        in_none = [example for example in examples if example.columns["group"] == "-1"]
        assert Counter(example.columns["split"] for example in in_none) == {"valid": 4}

    def test_of_other_trees_splits_are_no_classes(self, tmp_path):
        touch(tmp_path / "train" / "cat" / "a.png")
        touch(tmp_path / "test" / "cat" / "b.png")
        touch(tmp_path / "train" / "cat" / "young" / "c.png")
        with pytest.raises(ImageSetError, match="'test', 'train', which are splits and no classes"):
            load_image_set(tmp_path)
