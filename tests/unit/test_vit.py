import pickle
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tolerances import CONFIDENCE, IMPORTANCE

import semlink.vision.vit
import semlink.vision.weights
from semlink.vision.growth import grow_with_mirror
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.vit import (
    class_attention,
    class_logits,
    class_names,
    load_vit,
    normalise,
    tokens_and_attention,
)
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL, WeightsError, find_weights

pytestmark = pytest.mark.numeric

PHOTOS = ("chelsea", "coffee", "astronaut", "rocket")


@pytest.fixture(scope="module")
def tiny_file() -> Path:
    return find_weights(DEVICE_MODEL).path


@pytest.fixture(scope="module")
def tiny():
    return load_vit(DEVICE_MODEL)


@pytest.fixture(scope="module")
def images(tiny):
    pixels = np.stack([model_pixels(open_image(path)) for path in find_photos(PHOTOS)])
    return normalise(tiny, pixels)


@pytest.fixture
def nowhere(monkeypatch, tmp_path) -> Path:
    """A place where there are no weights anywhere: not in the package, not in the environment, not online."""
    own = tmp_path / "pretrained"
    own.mkdir()
    monkeypatch.setattr(semlink.vision.weights, "PRETRAINED", own)
    monkeypatch.setattr(semlink.vision.weights, "_from_hub", lambda model: f"no hub for {model}")
    monkeypatch.delenv("SEMLINK_WEIGHTS", raising=False)
    return own


def unfused_attention(model, images) -> torch.Tensor:
    """(B, heads, tokens, tokens) attention of the last block in timm's own unfused full forward."""
    seen = []
    attention = model.blocks[-1].attn
    hook = attention.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    fused, attention.fused_attn = attention.fused_attn, False
    try:
        with torch.inference_mode():
            model(images)
    finally:
        attention.fused_attn = fused
        hook.remove()
    return seen[0]


@contextmanager
def forbidden(*modules: torch.nn.Module):
    """Fails if one of the modules runs."""

    def fail(module, inputs):
        raise AssertionError(f"{type(module).__name__} ran")

    hooks = [module.register_forward_pre_hook(fail) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class TestClassAttention:
    def test_is_timms_own_over_the_patches(self, tiny, images):
        of_class_token = unfused_attention(tiny, images)[:, :, 0]
        over_patches = of_class_token[:, :, 1:]
        expected = (over_patches / over_patches.sum(-1, keepdim=True)).mean(dim=1)
        torch.testing.assert_close(class_attention(tiny, images), expected, atol=0, rtol=IMPORTANCE)

    def test_differs_between_photos_and_sums_to_one(self, tiny, images):
        attention = class_attention(tiny, images)
        assert attention.shape == (len(PHOTOS), 196)
        assert (attention > 0).all()
        torch.testing.assert_close(attention.sum(1), torch.ones(len(PHOTOS)))
        assert torch.cdist(attention, attention).fill_diagonal_(1).min() > 0.01

    def test_does_not_depend_on_the_batch(self, tiny, images):
        alone = torch.cat([class_attention(tiny, image[None]) for image in images])
        torch.testing.assert_close(alone, class_attention(tiny, images), atol=0, rtol=IMPORTANCE)

    def test_runs_only_what_attention_needs(self, tiny, images):
        last = tiny.blocks[-1]
        unneeded = (last.attn, last.attn.qkv, last.attn.proj, last.norm2, last.mlp, tiny.norm, tiny.head)
        with forbidden(*unneeded):
            class_attention(tiny, images[:1])
        with forbidden(last.mlp), pytest.raises(AssertionError, match="ran"), torch.inference_mode():
            tiny(images[:1])  # the guard does guard

    def test_runs_the_blocks_before_the_last(self, tiny, images):
        ran = []
        hooks = [block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(tiny.blocks)]
        class_attention(tiny, images[:1])
        for hook in hooks:
            hook.remove()
        assert ran == list(range(len(tiny.blocks) - 1))


class TestTokens:
    def test_are_what_enters_timms_second_block(self, tiny, images):
        seen = []
        hook = tiny.blocks[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        with torch.inference_mode():
            tiny(images)
        hook.remove()
        tokens, _ = tokens_and_attention(tiny, images)
        assert tokens.shape == (len(PHOTOS), 196, 192)
        torch.testing.assert_close(tokens, seen[0][:, 1:], atol=0, rtol=0)

    def test_attention_is_class_attention(self, tiny, images):
        _, attention = tokens_and_attention(tiny, images)
        torch.testing.assert_close(attention, class_attention(tiny, images), atol=0, rtol=0)

    def test_every_block_runs_once(self, tiny, images):
        ran = []
        hooks = [block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(tiny.blocks)]
        with forbidden(tiny.norm, tiny.head):
            tokens_and_attention(tiny, images[:1])
        for hook in hooks:
            hook.remove()
        assert ran == list(range(len(tiny.blocks) - 1))  # of the last one, the attention alone


@torch.inference_mode()
def test_class_logits_are_timms_forward(tiny, images):
    torch.testing.assert_close(class_logits(tiny, images), tiny(images), atol=CONFIDENCE, rtol=0)


@pytest.fixture(scope="module")
def small(tiny_file, tmp_path_factory):
    """The larger model where only the smaller one's weights are at hand."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / f"{DEVICE_MODEL}.safetensors").symlink_to(tiny_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semlink.vision.weights, "PRETRAINED", folder / "none")
        patch.setattr(semlink.vision.weights, "_from_hub", lambda model: f"no hub for {model}")
        return load_vit(SERVER_MODEL, weights=folder)


class TestGrown:
    @torch.inference_mode()
    def test_without_layer_norm_it_is_the_mean_over_the_mirror_image(self):
        """LayerNorm is all that couples the two halves, so without it nothing may differ but rounding."""
        torch.manual_seed(0)
        shape = {"num_classes": 5, "depth": 3, "img_size": 64, "norm_layer": torch.nn.Identity}
        narrow = timm.create_model(DEVICE_MODEL, **shape).double().eval()
        for weight in narrow.parameters():
            torch.nn.init.normal_(weight, std=0.05)
        wide = timm.create_model(SERVER_MODEL, **shape).double().eval()
        wide.load_state_dict(grow_with_mirror(narrow.state_dict()))
        images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
        both = torch.stack([narrow(images), narrow(images.flip(-1))])
        torch.testing.assert_close(wide(images), both.mean(0))
        assert (both[0] - both[1]).abs().max() > 1e-3  # a mirror image is another image

    @torch.inference_mode()
    def test_is_near_the_mean_over_the_mirror_image(self, small, tiny, images):
        """With LayerNorm, on photos: much nearer to the mean of both answers than either answer is."""
        both = torch.stack([tiny(images), tiny(images.flip(-1))])
        apart = (both[0] - both[1]).square().mean().sqrt() / 2
        assert (small(images) - both.mean(0)).square().mean().sqrt() < apart

    @torch.inference_mode()
    def test_does_not_see_which_way_round_a_picture_is(self, small, images):
        torch.testing.assert_close(small(images), small(images.flip(-1)), atol=CONFIDENCE, rtol=0)

    def test_is_of_the_larger_models_shape(self, small):
        release = timm.create_model(SERVER_MODEL)
        assert {name: tensor.shape for name, tensor in small.state_dict().items()} == {
            name: tensor.shape for name, tensor in release.state_dict().items()
        }

    def test_says_so(self, small):
        assert small.origin.grown
        assert "grown from deit_tiny_patch16_224, not the release" in str(small.origin)

    def test_the_release_is_not_called_grown(self, tiny):
        assert not tiny.origin.grown
        assert "grown" not in str(tiny.origin)
        assert str(tiny.origin).startswith(DEVICE_MODEL)


class TestLoad:
    def test_is_ready_for_inference_in_float32(self, tiny):
        assert not tiny.training
        assert {parameter.dtype for parameter in tiny.parameters()} == {torch.float32}

    def test_file_fits_exactly(self, tiny, tiny_file):
        stored = load_file(tiny_file)
        scales = {name for name in stored if name.endswith(".scale")}
        assert set(stored) - scales == set(tiny.state_dict())
        for name, tensor in tiny.state_dict().items():
            kept = stored[name].float()
            if f"{name}.scale" in scales:
                kept = torch.einsum("r...,r->r...", kept, stored[f"{name}.scale"])
            torch.testing.assert_close(tensor, kept, atol=0, rtol=0)

    def test_float16_is_widened(self, nowhere, tmp_path, tiny):
        half = {name: tensor.half() for name, tensor in tiny.state_dict().items()}
        save_file(half, tmp_path / f"{DEVICE_MODEL}.safetensors")
        loaded = load_vit(DEVICE_MODEL, weights=tmp_path).state_dict()
        for name, tensor in half.items():
            torch.testing.assert_close(loaded[name], tensor.float(), atol=0, rtol=0)

    def test_torch_is_left_as_it_was(self):
        """Neither its random numbers nor its threads are others after it."""
        drawn, threads = torch.get_rng_state(), torch.get_num_threads()
        load_vit(SERVER_MODEL)
        assert torch.equal(torch.get_rng_state(), drawn)
        assert torch.get_num_threads() == threads

    def test_other_numbers_of_classes(self, nowhere, tmp_path, tiny, images):
        state = tiny.state_dict()
        few = {**state, "head.weight": state["head.weight"][:7], "head.bias": state["head.bias"][:7]}
        save_file({name: tensor.clone() for name, tensor in few.items()}, tmp_path / f"{DEVICE_MODEL}.safetensors")
        model = load_vit(DEVICE_MODEL, weights=tmp_path)
        assert class_names(model) == ["0", "1", "2", "3", "4", "5", "6"]
        with torch.inference_mode():
            assert model(images[:1]).shape == (1, 7)

    @pytest.mark.parametrize(
        "name", ["truncated", "empty", "text", "pickle", "header", "extra", "missing", "scalar"]
    )
    def test_bad_file(self, nowhere, tmp_path, tiny, tiny_file, name):
        path = tmp_path / f"{DEVICE_MODEL}.safetensors"
        state = {key: tensor.clone() for key, tensor in tiny.state_dict().items()}
        match name:
            case "truncated":
                path.write_bytes(tiny_file.read_bytes()[:1_000_000])
            case "empty":
                path.touch()
            case "text":
                path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
            case "pickle":
                path.write_bytes(pickle.dumps(Bomb()))
            case "header":
                path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
            case "extra":
                save_file({**state, "more": torch.zeros(1)}, path)
            case "missing":
                save_file({key: tensor for key, tensor in state.items() if key != "norm.bias"}, path)
            case "scalar":
                save_file({**state, "head.bias": torch.tensor(1.0)}, path)
        with pytest.raises(WeightsError, match=DEVICE_MODEL) as caught:
            load_vit(DEVICE_MODEL, weights=tmp_path)
        assert str(path) in str(caught.value)

    def test_weights_of_another_model(self, nowhere, tmp_path, tiny_file):
        (tmp_path / f"{SERVER_MODEL}.safetensors").symlink_to(tiny_file)
        with pytest.raises(WeightsError, match=f"holds no weights for {SERVER_MODEL}"):
            load_vit(SERVER_MODEL, weights=tmp_path)

    def test_too_large_a_file(self, nowhere, tmp_path, monkeypatch, tiny_file):
        (tmp_path / f"{DEVICE_MODEL}.safetensors").symlink_to(tiny_file)
        monkeypatch.setattr(semlink.vision.vit, "MAX_WEIGHTS_BYTES", 1000)
        with pytest.raises(WeightsError, match="larger"):
            load_vit(DEVICE_MODEL, weights=tmp_path)

    @pytest.mark.parametrize("name", ["vit_tiny_patch16_384", "resnet18"])
    def test_model_that_is_no_vit_of_the_right_size(self, nowhere, tmp_path, name):
        save_file(timm.create_model(name).state_dict(), tmp_path / f"{name}.safetensors")
        with pytest.raises(WeightsError, match=name):
            load_vit(name, weights=tmp_path)


class Bomb:
    """Pickled code; unpickling it fails the test."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


class TestFindWeights:
    @pytest.fixture
    def places(self, nowhere, tmp_path, monkeypatch) -> dict[str, Path]:
        """All places, in the order in which they are searched, each with the weights."""
        places = {
            "argument": tmp_path / "argument",
            "environment": tmp_path / "environment",
            "models": nowhere,
        }
        for place in places.values():
            place.mkdir(exist_ok=True)
            (place / f"{DEVICE_MODEL}.safetensors").touch()
        monkeypatch.setenv("SEMLINK_WEIGHTS", str(places["environment"]))
        hub = tmp_path / "model.safetensors"
        monkeypatch.setattr(semlink.vision.weights, "_from_hub", lambda model: hub)
        return {**places, "hub": hub}

    def test_order(self, places, monkeypatch):
        def found(folder=None) -> Path:
            return find_weights(DEVICE_MODEL, folder).path

        file = f"{DEVICE_MODEL}.safetensors"
        assert found(places["argument"]) == places["argument"] / file
        assert found() == places["environment"] / file
        (places["environment"] / file).unlink()
        assert found() == places["models"] / file
        monkeypatch.delenv("SEMLINK_WEIGHTS")
        assert found() == places["models"] / file
        (places["models"] / file).unlink()
        assert found() == places["hub"]

    def test_says_where(self, places):
        assert find_weights(DEVICE_MODEL, places["argument"]).place == "--weights"

    def test_own_weights_come_before_grown_ones(self, places, monkeypatch):
        """The hub's release of the larger model is preferred to growing one from a smaller one at hand."""
        monkeypatch.delenv("SEMLINK_WEIGHTS")
        found = find_weights(SERVER_MODEL)
        assert (found.model, found.path) == (SERVER_MODEL, places["hub"])

    def test_a_named_folder_comes_first_even_if_it_must_be_grown(self, places):
        """Who names a folder with a fine-tuned smaller model wants its classes, not the hub's."""
        found = find_weights(SERVER_MODEL, places["argument"])
        assert (found.model, found.place) == (DEVICE_MODEL, "--weights")

    def test_without_the_release_it_is_grown(self, nowhere):
        (nowhere / f"{DEVICE_MODEL}.safetensors").touch()
        assert find_weights(SERVER_MODEL).model == DEVICE_MODEL

    def test_the_smaller_model_is_never_made_from_the_larger(self, nowhere):
        (nowhere / f"{SERVER_MODEL}.safetensors").touch()
        with pytest.raises(WeightsError):
            find_weights(DEVICE_MODEL)

    def test_nothing_anywhere_lists_each_place_and_what_to_do(self, nowhere, tmp_path):
        with pytest.raises(WeightsError) as caught:
            find_weights(SERVER_MODEL, tmp_path)
        message = str(caught.value)
        for name in (SERVER_MODEL, DEVICE_MODEL):
            for place in (tmp_path, nowhere):
                assert f"no {name}.safetensors in {place}" in message
            assert f"timm's hub: no hub for {name}" in message
        assert f"Put {SERVER_MODEL}.safetensors into a folder" in message
        assert "--weights" in message
        assert "SEMLINK_WEIGHTS" in message

    def test_folder_must_exist(self, places, tmp_path, monkeypatch):
        with pytest.raises(WeightsError, match="must be a folder"):
            find_weights(DEVICE_MODEL, tmp_path / "absent")
        with pytest.raises(WeightsError, match="must be a folder"):
            find_weights(DEVICE_MODEL, places["models"] / f"{DEVICE_MODEL}.safetensors")
        monkeypatch.setenv("SEMLINK_WEIGHTS", str(tmp_path / "absent"))
        with pytest.raises(WeightsError, match="SEMLINK_WEIGHTS"):
            find_weights(DEVICE_MODEL)

    @pytest.mark.parametrize("suffix", ["bin", "pth", "pt", "pkl", "ckpt"])
    def test_pickles_are_not_even_looked_at(self, nowhere, suffix):
        for name in (DEVICE_MODEL, "pytorch_model"):
            (nowhere / f"{name}.{suffix}").write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(WeightsError):
            load_vit(DEVICE_MODEL)


class TestHub:
    @pytest.fixture
    def hub(self, monkeypatch, tmp_path):
        """The hub, as its client shows it: nothing in the cache, nothing fetched unless a test says so."""
        monkeypatch.setattr(semlink.vision.weights, "PRETRAINED", tmp_path / "none")
        monkeypatch.delenv("SEMLINK_WEIGHTS", raising=False)
        calls = SimpleNamespace(cached=None, file=OSError("the network is down"), asked=[])

        def download(repository, file, **options):
            calls.asked.append((repository, file))
            if isinstance(calls.file, Exception):
                raise calls.file
            return calls.file

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: calls.cached)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setattr("httpx.head", lambda *_, **__: None)
        return calls

    def test_only_safetensors_are_fetched(self, hub, tmp_path):
        hub.file = str(tmp_path / "fetched.safetensors")
        assert find_weights(DEVICE_MODEL).path == tmp_path / "fetched.safetensors"
        assert hub.asked == [("timm/deit_tiny_patch16_224.fb_in1k", "model.safetensors")]

    def test_cache_comes_before_the_network(self, hub, tmp_path):
        hub.cached = str(tmp_path / "cached.safetensors")
        assert find_weights(DEVICE_MODEL).path == tmp_path / "cached.safetensors"
        assert not hub.asked

    def test_unreachable(self, hub):
        with pytest.raises(WeightsError, match=r"timm's hub: .*could not be fetched .*the network is down"):
            find_weights(DEVICE_MODEL)

    def test_switched_off(self, hub, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
            find_weights(DEVICE_MODEL)
        assert not hub.asked

    @pytest.mark.parametrize("name", ["no_such_model", f"{DEVICE_MODEL}.no_such_tag", "../escape", ""])
    def test_unknown_model(self, hub, name):
        with pytest.raises(WeightsError, match="timm knows no model"):
            load_vit(name)
        assert not hub.asked


class TestNormalise:
    def test_pixels_have_imagenets_moments_taken_out(self, tiny):
        for dtype in (np.uint8, np.float32, np.float64):
            pixels = np.full((2, 224, 224, 3), (124, 116, 104), dtype)
            image = normalise(tiny, pixels)
            assert image.shape == (2, 3, 224, 224)
            assert image.dtype == torch.float32
            assert image.is_contiguous()
            assert image.abs().max() < 0.01

    def test_class_names_are_imagenets(self, tiny):
        names = class_names(tiny)
        assert len(names) == 1000
        assert names[281] == "tabby"
        assert names[0] == "tench"
        assert names[999] == "toilet tissue"

    def test_the_cat_is_a_cat(self, tiny, images):
        with torch.inference_mode():
            labels = tiny(images).argmax(1).tolist()
        cats = range(281, 286)
        assert labels[0] in cats
        assert class_names(tiny)[labels[1]] in ("espresso", "cup", "coffee mug")
