"""Localizers on frozen features, DeCLIP's and DINOv2's: what is trained of them, what they see, and their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from conftest import fit_until
from deeploc_bench_plugins import declip, dinov2, iml_vit, patch_forensics
from safetensors.torch import load_file, save_file
from test_smp_plugin import cache, fill  # noqa: F401
from torch.nn.functional import interpolate, pad

from deeploc_bench import WeightsError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.suites import silent
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.plan.recipe import load_recipe
from deeploc_bench.testing import assert_conforms

ROOT = Path(__file__).parents[1]
FINDERS = (declip, dinov2, iml_vit, patch_forensics)
SMALLEST = ("declip-rn50-linear", "dinov2-small-linear", "iml-vit-small", "patch-forensics-block1")
SMALL = "vit_small_patch14_dinov2.lvd142m"
pytestmark = pytest.mark.usefixtures("one_thread")


def found(name):
    return next((model for plugin in FINDERS if (model := plugin.deeploc_find_model(name))), None)


def build(name, weights=None, seed=0):
    torch.manual_seed(seed)
    model = found(name)
    return model.build() if model.pretraining == "none" else model.build(weights and str(weights))


@pytest.fixture(scope="module")
def dino():
    return build("dinov2-small-linear").eval()


@pytest.fixture(scope="module")
def clip():
    return build("declip-rn50-linear").eval()


@pytest.mark.parametrize(
    ("name", "pretraining", "license"),
    [
        ("declip-vitl14-rn50-conv20", "openai-clip", "MIT"),
        ("declip-vitb16-linear", "openai-clip", "MIT"),
        ("dinov2-large-conv", "lvd142m", "Apache-2.0"),
        ("iml-vit", "imagenet", "CC-BY-NC-4.0"),
        ("iml-vit-small", "imagenet", "Apache-2.0"),
        ("patch-forensics-block5", "none", "MIT"),
    ],
)
def test_a_model_is_found_by_its_name_and_states_its_weights(name, pretraining, license):
    model = found(name)
    assert (model.name, model.pretraining, model.license) == (name, pretraining, license)
    assert model.reference.startswith("https://arxiv.org/abs/")


@pytest.mark.parametrize(
    "name",
    [
        "declip",
        "declip-vitl14",
        "declip-rn101-conv4",
        "declip-rn50-vitl14-conv4",
        "declip-rn50-conv8",
        "dinov2-tiny-conv",
    ]
    + [
        "dinov2-small",
        "dinov2-small-conv4",
        "iml-vit-tiny",
        "patch-forensics-block6",
        "patch-forensics-block0",
        "unet",
    ],
)
def test_other_names_are_not_found(name):
    assert found(name) is None


def test_finding_a_model_imports_neither_torch_nor_timm(forked, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['timm'] = None\n"
        "from deeploc_bench.contract.loading import load_plugins\n"
        f"registry = load_plugins()\nprint([registry.model(name).plugin.name for name in {SMALLEST}])"
    )
    done = forked.completed(tmp_path, code, {})
    assert done.stdout.strip() == "['declip', 'dinov2', 'iml-vit', 'patch-forensics']", done.stderr


def test_only_the_head_is_trained_and_the_networks_stay_in_eval_mode(dino):
    dino.train()
    trained = [name for name, parameter in dino.named_parameters() if parameter.requires_grad]
    assert trained and all(name.startswith("head.") for name in trained)
    assert dino.head.training and not any(one.training for one in dino.networks[0].modules())
    dino(torch.rand(2, 3, 42, 42)).mean().backward()
    assert all(parameter.grad is None for parameter in dino.networks.parameters())
    dino.eval()


def tiny_training(name, epochs=2, loss="bce"):
    """Return a training of a model on one generator of the tiny suite."""
    registry = load_plugins([str(ROOT / "tests/tiny.py")])
    settings = [f"epochs={epochs}", "lr=0.01"]
    job = Job(suite="tiny", recipe="quick", settings=settings, models=[name], losses=[loss], protocols=["same"])
    plan = prepare(job, silent, registry).plan
    return next(one for one in plan.trainings.values() if one.loss)


def assert_trains(name, folder):
    training = tiny_training(name)
    fit_until(training, folder)
    before, after = build(name, seed=training.seed), load_file(folder / "model.safetensors")
    before.load_state_dict(after)  # whose tensors are those of any build
    start = build(name, seed=training.seed)
    trained = {key for key, parameter in start.named_parameters() if parameter.requires_grad}
    same = {key for key, value in start.state_dict().items() if torch.equal(value, after[key])}
    assert trained and not trained & same
    assert {key for key in after if key.startswith("networks.")} <= same


def test_a_training_changes_the_head_and_leaves_the_frozen_weights(tmp_path):
    assert_trains("dinov2-small-linear", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["declip-rn50-linear", "declip-vitb16-conv4", "dinov2-small-conv"])
def test_a_training_of_the_others_leaves_the_frozen_weights_too(name, tmp_path):
    assert_trains(name, tmp_path)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (75, 130)])
def test_images_of_any_size_have_logits_of_theirs(dino, clip, size):
    with torch.inference_mode():
        for model in (dino, clip):
            logits = model(torch.rand(1, 3, *size))
            assert logits.shape == (1, 1, *size) and logits.isfinite().all()


def test_dinov2_sees_whole_patches_normalized_and_gives_each_one_logit(dino):
    network, images = dino.networks[0], torch.rand(1, 3, 40, 60)
    padded = pad(images, (0, 10, 0, 2), mode="replicate")
    mean, std = (torch.tensor(one)[:, None, None] for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        features = network.network.forward_features((padded - mean) / std)[:, 1:]
        maps = dino.head(features.transpose(1, 2).unflatten(2, (3, 5)))
        expected = interpolate(maps, size=(42, 70), mode="bilinear")[..., :40, :60]
        assert torch.allclose(dino(images), expected, atol=1e-5)


def test_declip_shows_clip_a_256_pixel_image_as_the_paper_does(clip):
    seen, images = [], torch.rand(1, 3, 256, 256)
    hook = clip.networks[0].register_forward_hook(lambda _, given, maps: seen.append((given[0], maps)))
    with torch.inference_mode():
        clip(images)
    hook.remove()
    ((shown, maps),) = seen
    assert torch.equal(shown, interpolate(images, size=(224, 224), mode="bilinear", antialias=True))
    assert maps.shape == (1, 1024, 14, 14)


@pytest.mark.parametrize(("name", "convolutions"), [("linear", 1), ("conv4", 5), ("conv12", 13), ("conv20", 21)])
def test_a_decoder_is_as_deep_as_its_name_and_brings_features_to_pixels(name, convolutions):
    decoder = declip._decoder(name, 8).eval()
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in decoder.modules()) == convolutions
    with torch.inference_mode():
        assert decoder(torch.rand(1, 8, 2, 3)).shape == ((1, 1, 2, 3) if name == "linear" else (1, 1, 32, 48))


@pytest.mark.slow
def test_features_are_those_of_the_block_that_is_named():
    torch.manual_seed(0)
    whole = timm.create_model(declip.BACKBONES["vitb16"].network).eval()
    network = build("declip-vitb16-linear").networks[0]
    images = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        (expected,) = whole.get_intermediate_layers(network.normalization(images), n=[10], reshape=True)
        assert torch.allclose(network(images), expected, atol=1e-5)


def weights_of(seed, name=SMALL):
    torch.manual_seed(seed)
    return timm.create_model(name).state_dict()


def test_weights_come_from_a_file_as_timm_has_it(tmp_path):
    expected = weights_of(5)
    save_file(expected, tmp_path / "w.safetensors")
    state = build("dinov2-small-conv", tmp_path / "w.safetensors").state_dict()
    own = {key.removeprefix("networks.0.network."): value for key, value in state.items() if "networks.0." in key}
    assert len(own) > 100 and all(torch.equal(value, expected[key]) for key, value in own.items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other", "does not hold the tensors of timm's vit_small"),
        ("pickle", "is not a safetensors file"),
        ("missing", "No such file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path, name, words):
    file = tmp_path / "w.safetensors"
    if name == "other":
        save_file({"stem.weight": torch.zeros(3)}, file)
    elif name == "pickle":
        torch.save({"stem.weight": torch.zeros(3)}, file)
    with pytest.raises(WeightsError, match=words) as error:
        build("dinov2-small-linear", file)
    assert str(file) in str(error.value) and "'dinov2-small-linear'" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.slow
def test_weights_of_two_networks_lie_in_one_file_behind_their_names(tmp_path):
    names = {backbone: declip.BACKBONES[backbone].network for backbone in ("vitb16", "rn50")}
    state = {f"{one}.{key}": value for one, name in names.items() for key, value in weights_of(5, name).items()}
    save_file(state, tmp_path / "w.safetensors")
    model = build("declip-vitb16-rn50-linear", tmp_path / "w.safetensors")
    for backbone, network in zip(names, model.networks, strict=True):
        own = network.network.state_dict()
        assert all(torch.equal(value, state[f"{backbone}.{key}"]) for key, value in own.items())
    save_file({key: value for key, value in state.items() if "rn50" in key}, tmp_path / "half.safetensors")
    with pytest.raises(WeightsError, match=r"no tensor whose name begins with 'vitb16\.'"):
        build("declip-vitb16-rn50-linear", tmp_path / "half.safetensors")


def test_default_weights_come_from_the_hugging_face_cache(cache):  # noqa: F811
    expected = weights_of(5)
    repository = timm.get_pretrained_cfg(SMALL).hf_hub_id
    fill(cache, repository, "0" * 40, {"model.safetensors": lambda path: save_file(expected, path)})
    state = build("dinov2-small-linear", "default").networks[0].network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in state.items())


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("dinov2-small-linear", "timm/vit_small_patch14_dinov2.lvd142m"),
        ("declip-vitb16-conv4", "timm/vit_base_patch16_clip_224.openai"),
        ("declip-rn50-linear", "timm/resnet50_clip.openai"),
        ("iml-vit", "timm/vit_base_patch16_224.mae"),
    ],
)
def test_missing_weights_are_an_error_that_names_the_ways_out(cache, name, repository):  # noqa: F811
    with pytest.raises(WeightsError) as error:
        build(name, "default")
    for what in (name, repository, str(cache), "weights=none", "weights=FILE.safetensors", "HF_HOME", "HF_HUB_OFFLINE"):
        assert what in str(error.value)


def test_the_recipe_of_declip_is_one_that_is_read():
    recipe = load_recipe(str(ROOT / "docs/recipes/declip.toml"))
    assert (recipe.name, recipe.lr, recipe.batch_size, recipe.optimizer) == ("declip", 1e-3, 64, "adam")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_of_each_family_keeps_the_contract(name):
    assert_conforms(name)


@pytest.mark.slow
def test_weights_are_fetched_for_a_machine_without_a_network(deeploc, tmp_path):
    """And where they are not, `run` says so before anything is trained, and trains without them where it is told to."""
    fetch = deeploc("weights", "fetch", "dinov2-small-linear", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert (fetch.returncode, "are not in the Hugging Face cache" in fetch.stderr) == (2, True)
    repository = timm.get_pretrained_cfg(SMALL).hf_hub_id
    fill(tmp_path / "hub", repository, "0" * 40, {"model.safetensors": lambda path: save_file(weights_of(5), path)})
    fetch = deeploc("weights", "fetch", "dinov2-small-linear", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert fetch.stdout == "dinov2-small-linear: weights are in the cache\n", fetch.stderr
