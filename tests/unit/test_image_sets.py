from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.data.image_sets import Example, ImageSet, ImageSetError, load_image_set


@pytest.fixture
def pets(tmp_path) -> Path:
    """A manifest of forty pictures, two classes in turn, ten objects, five folds."""
    rows = [
        f"{number}.png,{('cat', 'dog')[number % 2]},{number % 2},pet{number // 4},{number // 8}"
        for number in range(40)
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,class,label,object,fold", *rows]))
    return tmp_path


class TestLoading:
    def test_manifest(self, pets):
        data = load_image_set(pets)
        assert data.classes == ("cat", "dog")
        assert len(data.examples) == 40
        assert data.examples[5].path == pets / "5.png"
        assert data.examples[5].label == 1
        assert data.examples[5].sample == "1/pet1"  # an object belongs to its class

    def test_tree_of_classes(self, tmp_path):
        for name in ("cat", "dog"):
            (tmp_path / name / "young").mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / name / "young" / "a.jpg")
            (tmp_path / name / "notes.txt").write_text("no image")
        data = load_image_set(tmp_path)
        assert data.classes == ("cat", "dog")
        assert [example.label for example in data.examples] == [0, 1]
        assert [example.columns for example in data.examples] == [{}, {}]

    @pytest.mark.parametrize(
        ("manifest", "said"),
        [
            ("path,class\na.png,cat\n", "line 2"),
            ("path,class,label\na.png,cat,0\nb.png,cat,one\n", "line 3"),
            ("path,class,label\na.png,cat,0\nb.png,dog,0\n", "label 0 is 'cat' and 'dog'"),
            ("path,class,label\na.png,cat,1\n", "without gaps"),
            ("path,class,label\n", "no images"),
        ],
    )
    def test_malformed_manifests_are_explained(self, tmp_path, manifest, said):
        (tmp_path / "manifest.csv").write_text(manifest)
        with pytest.raises(ImageSetError, match=said):
            load_image_set(tmp_path)

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(ImageSetError, match=r"manifest\.csv"):
            load_image_set(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", ["batches.meta.txt", "fine_label_names.txt"])
    def test_cifar_is_unpacked_first(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ImageSetError, match="semlink unpack"):
            load_image_set(tmp_path)


class TestWhere:
    def test_divides(self, pets):
        held_out, kept = load_image_set(pets).where("fold=0")
        assert len(held_out.examples) == 8
        assert len(kept.examples) == 32
        odd, even = load_image_set(pets).where("label=odd")
        assert {example.label for example in odd.examples} == {1}
        assert {example.label for example in even.examples} == {0}

    @pytest.mark.parametrize(
        ("condition", "said"), [("fold", "COLUMN=VALUE"), ("size=3", "fold"), ("fold=9", "0 of 40")]
    )
    def test_bad_conditions_are_explained(self, pets, condition, said):
        with pytest.raises(ImageSetError, match=said):
            load_image_set(pets).where(condition)


def views(*objects: int, groups: int = 0, size: int = 4) -> ImageSet:
    """One class for each number of objects; each object with so many groups of views, or four single images."""
    examples = [
        Example(Path(f"{label}-{sample}-{number}.png"), label, {"object": str(sample), "group": group})
        for label, count in enumerate(objects)
        for sample in range(count)
        for number, group in enumerate([str(at // size) for at in range(groups * size)] or ["-1"] * 4)
    ]
    return ImageSet("views", tuple(str(label) for label in range(len(objects))), tuple(examples))


class TestAtMost:
    @given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 250))
    def test_of_single_images_it_takes_exactly_as_many_in_equal_shares(self, objects, count):
        data = views(*objects)
        chosen = data.at_most(count).examples
        assert len(chosen) == min(count, len(data.examples))
        numbers = [data.examples.index(example) for example in chosen]
        assert numbers == sorted(set(numbers)), "in their order, each once"
        taken = Counter(example.label for example in chosen)
        # Equal shares: a class with fewer than another by more than one has nothing left.
        for label, samples_of_it in enumerate(objects):
            assert taken[label] == 4 * samples_of_it or taken[label] >= max(taken.values()) - 1
        for label, samples_of_it in enumerate(objects):
            samples = [taken_of(chosen, label, sample) for sample in range(samples_of_it)]
            assert max(samples) - min(samples) <= 1, "samples take turns"

    @given(st.integers(1, 5), st.integers(1, 6), st.integers(8, 300))
    def test_groups_stay_whole_and_samples_take_turns(self, objects, groups, count):
        data = views(objects, objects, groups=groups)
        chosen = data.at_most(count).examples
        assert count - 2 * 4 < len(chosen) or len(chosen) == len(data.examples)
        assert len(chosen) <= count
        sizes = Counter((example.sample, example.columns["group"]) for example in chosen)
        assert set(sizes.values()) == {4}
        for label in (0, 1):
            samples = [taken_of(chosen, label, sample) for sample in range(objects)]
            assert max(samples) - min(samples) <= 4

    def test_it_is_spread_over_samples_and_within_them(self):
        data = views(8, groups=8)
        few = data.at_most(8).examples
        assert {example.columns["object"] for example in few} == {"0", "4"}
        many = data.at_most(8 * 2 * 4).examples
        assert {example.columns["group"] for example in many} == {"0", "4"}
        assert len({example.sample for example in many}) == 8

    def test_where_not_every_class_gets_one_it_is_spread_over_the_classes(self):
        chosen = views(*[1] * 8).at_most(2).examples
        assert [example.label for example in chosen] == [0, 4]

    def test_it_is_named_and_a_set_that_is_small_enough_stays_as_it_is(self):
        data = views(2, 2)
        assert data.at_most(16) is data
        assert data.at_most(6).name == "views, 6 of 16"
        assert data.at_most(6).classes == data.classes

    def test_counts_that_are_too_small_are_refused(self):
        with pytest.raises(ValueError, match="count must be 1 or more"):
            views(1).at_most(0)
        with pytest.raises(ImageSetError, match="too few for a whole view group"):
            views(2, 2, groups=2).at_most(6)


def taken_of(examples: tuple[Example, ...], label: int, sample: int) -> int:
    return sum(example.sample == f"{label}/{sample}" for example in examples)
