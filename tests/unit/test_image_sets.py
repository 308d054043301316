import shlex
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from experiments.data import ImageSetError
from experiments.data.hold_out import stratified
from experiments.data.image_sets import Example, ImageSet, load_image_set


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
            ("", "line 1: it must name the columns path and class; path is not among none"),
            ("file,class\na.png,cat\n", "line 1: .* path is not among 'class', 'file'"),
            ("path;class;label\na.png;cat;0\n", "line 1: .* separated by something else than commas"),
            ("path,class,class\na.png,cat,dog\n", "line 1: it names 'class' more than once"),
            ("path,class\n", "names no images"),
            ("path,class,label\na.png,cat,0\nb.png,cat,one\n", "line 3: label must be a whole number"),
            ("path,class,label\na.png,cat,-1\n", "line 2: label must be a whole number"),
            ("path,class,label\na.png,cat,\n", "line 2: label must be a whole number"),
            ("path,class,label\na.png,cat,0\nb.png,dog,0\n", "line 3: label 0 is 'cat' and 'dog'"),
            ("path,class,label\na.png,cat,1\n", "without gaps, and 0 has no image"),
            ("path,class\na.png,cat,3\n", "line 2: it has 3 fields, and the first line names 2 columns"),
            ("path,class\na.png,cat\nb.png\n", "line 3: it has 1 fields"),
            ("path,class\na.png,cat\n,dog\n", "line 3: path is empty"),
            ("path,class\na.png, \n", "line 2: class is empty"),
            ("path,class\na.png,cat\na.png,dog\n", "line 3: a.png is on line 2 already"),
            ('path,class\na.png,cat\n"b.png,dog\n', "line 3: it is no CSV"),
            ("path,class\na\0.png,cat\n", "line 2: "),
            (f"path,class\na.png,{'c' * 200_000}\n", "line 2: it is no CSV: field larger"),
            (b"path,class\na.png,caf\xe9\n", "it is not UTF-8"),
        ],
    )
    def test_malformed_manifests_are_explained(self, tmp_path, manifest, said):
        (tmp_path / "manifest.csv").write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
        with pytest.raises(ImageSetError, match=rf"manifest\.csv.*{said}"):
            load_image_set(tmp_path)

    def test_labels_are_those_of_the_sorted_classes_where_the_manifest_has_none(self, tmp_path):
        text = '\ufeffclass , path\r\ndog,b.png\r\n\r\n"cat, small",a.png\r\ndog,c.png\r\n'  # as a spreadsheet
        (tmp_path / "manifest.csv").write_bytes(text.encode())
        data = load_image_set(tmp_path)
        assert data.classes == ("cat, small", "dog")
        assert [(each.path.name, each.label, each.line) for each in data.examples] == [
            ("b.png", 1, 2),
            ("a.png", 0, 4),
            ("c.png", 1, 5),
        ]

    def test_two_classes_may_share_a_name(self, tmp_path):
        """As in ImageNet-1k, whose cranes are a bird and a machine."""
        lines = [f"{number}.png,crane,{number % 2}" for number in range(8)]
        (tmp_path / "manifest.csv").write_text("\n".join(["path,class,label", *lines]))
        data = load_image_set(tmp_path)
        assert data.classes == ("crane", "crane")
        held_out, rest = data.where("share=0.5")
        assert sorted(example.label for example in held_out.examples) == [0, 0, 1, 1]
        assert len(rest.examples) == 4

    def test_an_image_without_an_object_is_a_sample_of_its_own(self, tmp_path):
        (tmp_path / "manifest.csv").write_text("path,class,object\na.png,cat,\nb.png,cat,\nc.png,cat,tom\n")
        samples = [example.sample for example in load_image_set(tmp_path).examples]
        assert samples == [str(tmp_path / "a.png"), str(tmp_path / "b.png"), "0/tom"]

    def test_missing_files_are_named_with_their_line(self, pets):
        Image.new("RGB", (8, 8)).save(pets / "0.png")
        with pytest.raises(ImageSetError, match=r"manifest\.csv, line 3: there is no file .*1\.png, and 38 more"):
            load_image_set(pets).check_files()

    def test_a_packed_set_says_the_command_that_unpacks_it(self, tmp_path):
        packed = tmp_path / "my set"
        packed.mkdir()
        (packed / "manifest.csv").write_text("path,class\na.png,cat\nb.png,dog\n")
        with tarfile.open(packed / "set.tar.xz", "w:xz") as tar:
            for name in ("a.png", "b.png"):
                Image.new("RGB", (8, 8)).save(tmp_path / name)
                tar.add(tmp_path / name, name)
        data = load_image_set(packed)
        with pytest.raises(ImageSetError, match="is packed") as refused:
            data.check_files()
        _, command, *arguments = shlex.split(str(refused.value).split("`")[1])
        result = CliRunner().invoke(app, [command, arguments[0], str(tmp_path / arguments[1])])
        assert result.exit_code == 0, result.output
        load_image_set(tmp_path / arguments[1]).check_files()

    def test_trees_may_hold_what_systems_leave_behind(self, tmp_path):
        pictures = ["cat/a.JPG", "cat/b.Jpeg", "dog/c.png", "dog/d.WebP"]
        ignored = [
            ".git/objects/e.png",
            ".ipynb_checkpoints/f.png",
            "__MACOSX/cat/g.jpg",
            "cat/.ipynb_checkpoints/a-checkpoint.JPG",
            "cat/._a.JPG",
            "cat/.DS_Store",
            "dog/Thumbs.db",
            "dog/notes.txt",
            "notes.png",
        ]
        for name in pictures + ignored:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        (tmp_path / "empty").mkdir()
        data = load_image_set(tmp_path)
        assert data.classes == ("cat", "dog")
        assert [path.path.relative_to(tmp_path).as_posix() for path in data.examples] == pictures

    def test_subfolders_of_all_classes_are_objects(self, tmp_path):
        for name in ("cat/tom/1.png", "cat/tom/2.png", "cat/kit/1.png", "dog/rex/1.png", "dog/ben/1.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        assert [example.sample for example in load_image_set(tmp_path).examples] == [
            *("0/kit", "0/tom", "0/tom", "1/ben", "1/rex"),
        ]

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            (["a.png", "b.jpg"], "one folder a class; 2 pictures lie in it itself"),
            (
                ["cat/a.heic", "dog/b.HEIC", "dog/c.tiff"],
                "have 2 .heic, 1 .tiff, and .jpg, .*are taken",
            ),
            (["train/cat/a.png", "val/cat/b.png"], "'train', 'val', which are splits"),
        ],
    )
    def test_trees_without_classes_are_explained(self, tmp_path, names, said):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(ImageSetError, match=said):
            load_image_set(tmp_path)

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(ImageSetError, match=r"manifest\.csv"):
            load_image_set(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", ["batches.meta.txt", "fine_label_names.txt"])
    def test_cifar_is_unpacked_first(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ImageSetError, match=f"`semlink unpack {tmp_path} {tmp_path.name}-unpacked`"):
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
        ("condition", "said"),
        [
            ("fold", "COLUMN=VALUE"),
            ("size=3", "fold"),
            ("fold=9", "0 of 40"),
            *((f"share={value}", "a number within") for value in ("0", "1", "nan", "half", "")),
        ],
    )
    def test_bad_conditions_are_explained(self, pets, condition, said):
        with pytest.raises(ImageSetError, match=said):
            load_image_set(pets).where(condition)

    def test_a_share_is_of_every_class_and_of_whole_objects(self, pets):
        held_out, left = load_image_set(pets).where("share=0.2")
        # Each class shows ten objects, in two pictures each: one in five of them is held out.
        assert Counter(example.label for example in held_out.examples) == {0: 4, 1: 4}
        assert not {example.sample for example in held_out.examples} & {each.sample for each in left.examples}
        assert len(held_out.examples) + len(left.examples) == 40

    def test_a_share_is_the_same_wherever_the_folder_lies_and_stays_when_pictures_are_added(self, tmp_path):
        def held_out(place: str, count: int) -> set[str]:
            for number in range(count):
                for name in ("cat", "dog"):
                    (tmp_path / place / name).mkdir(parents=True, exist_ok=True)
                    (tmp_path / place / name / f"{number}.png").write_bytes(b"")
            chosen, _ = load_image_set(tmp_path / place).where("share=0.2")
            return {example.path.relative_to(tmp_path / place).as_posix() for example in chosen.examples}

        first = held_out("here", 40)
        assert first == held_out("there", 40)
        # Four more pictures of each class: of the eight that were held out at least four still are.
        for name in ("cat", "dog"):
            assert len({path for path in first & held_out("here", 44) if path.startswith(name)}) >= 4

    @pytest.mark.parametrize(("column", "unit"), [("", "picture"), (",object", "object")])
    def test_a_class_of_one_cannot_be_shared_out(self, tmp_path, column, unit):
        rows = ["a.png,cat,x", "b.png,dog,x", "c.png,dog,y"] + (["d.png,cat,x"] if column else [])
        lines = [f"path,class{column}", *(row if column else row[:-2] for row in rows)]
        (tmp_path / "manifest.csv").write_text("\n".join(lines))
        with pytest.raises(ImageSetError, match=f"of 'cat' there is a single {unit}"):
            load_image_set(tmp_path).where("share=0.2")


class TestLabelledAs:
    MODEL = ("great white shark", "crane", "crane", "tench")

    @pytest.mark.parametrize(
        ("classes", "labels"),
        [
            (("tench", "Great_White-Shark"), [3, 0]),
            (
                ("great_white_shark", "crane", "Crane", "tench"),
                [0, 1, 2, 3],
            ),  # as the model has them, in its order
        ],
    )
    def test_labels_become_the_models_by_name(self, classes, labels):
        examples = tuple(Example(Path(f"{label}.png"), label, {}) for label in range(len(classes)))
        data = ImageSet("fish", classes, examples, Path()).labelled_as(self.MODEL)
        assert [example.label for example in data.examples] == labels

    @pytest.mark.parametrize("classes", [("tench", "cat"), ("crane", "tench")])
    def test_what_the_model_does_not_name_or_not_once_is_refused(self, classes):
        data = ImageSet("fish", classes, (Example(Path("0.png"), 0, {}),), Path())
        with pytest.raises(ImageSetError, match="other classes: of its 4 none, or more than one, is 'c"):
            data.labelled_as(self.MODEL)


class TestStratified:
    @given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.floats(0.01, 0.99), st.integers(1, 2))
    def test_each_class_gives_its_share_and_keeps_some(self, sizes, share, least_left):
        samples = {str(label): [f"s{number}" for number in range(size)] for label, size in enumerate(sizes)}
        for name, chosen in stratified(samples, share, "key", least_left).items():
            size = len(samples[name])
            assert chosen <= set(samples[name])
            assert size - len(chosen) >= min(size, least_left)
            if size > least_left:
                assert len(chosen) >= 1
                assert len(chosen) == max(1, round(share * size)) or size - len(chosen) == least_left

    def test_another_key_makes_another_choice_and_the_order_none(self):
        samples = {"cat": [str(number) for number in range(100)]}
        first, other = (stratified(samples, 0.2, key)["cat"] for key in ("one", "two"))
        assert first != other
        assert stratified({"cat": samples["cat"][::-1]}, 0.2, "one")["cat"] == first


def views(*objects: int, groups: int = 0, size: int = 4) -> ImageSet:
    """One class for each number of objects; each object with so many groups of views, or four single images."""
    examples = [
        Example(Path(f"{label}-{sample}-{number}.png"), label, {"object": str(sample), "group": group})
        for label, count in enumerate(objects)
        for sample in range(count)
        for number, group in enumerate([str(at // size) for at in range(groups * size)] or ["-1"] * 4)
    ]
    return ImageSet("views", tuple(str(label) for label in range(len(objects))), tuple(examples), Path())


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
