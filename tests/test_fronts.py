"""Front ends of noise: what each takes out of an image, and that any plugin's model can stand behind one."""

from __future__ import annotations

import pytest
import torch
from conftest import TWO_LAYER
from deeploc_bench_plugins.fronts.extractors import FRONTS, Bayar, Fronted, OwnFronted, Srm
from torch import nn

from deeploc_bench.contract.errors import PluginError, UsageError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.source import source_hash
from deeploc_bench.leaderboard.speed import read_speed
from deeploc_bench.training.trial import noise

FINDER = """
from deeploc_bench import Model, hookimpl

@hookimpl
def deeploc_find_model(name, find):
    if name == "twice+residual-unet":
        return Model(name=name, build=find("residual-unet").build, reference=None, pretraining="none")
    if name.startswith("alone+"):
        return Model(name=name, build=dict, reference=None, pretraining="none")
"""


@pytest.fixture
def own(tmp_path):
    """Return a registry with a model of a file beside the installed ones, and that file."""
    file = tmp_path / "two_layer.py"
    file.write_text(TWO_LAYER)
    return load_plugins([str(file)]), file


def test_srm_sees_nothing_in_a_flat_image_and_its_filters_sum_to_zero():
    srm = Srm()
    assert srm.filters.sum(dim=(1, 2, 3)).abs().max() < 1e-6
    for level in (0.0, 0.3, 1.0):
        assert torch.allclose(srm(torch.full((1, 3, 32, 40), level)), torch.tensor(0.5), atol=1e-4)
    noisy = srm(noise(32, 40))
    assert noisy.shape == (2, 3, 32, 40) and 0 <= noisy.min() < 0.2 and 0.8 < noisy.max() <= 1


def test_srm_sees_a_step_of_one_level_and_no_ramp():
    ramp = torch.linspace(0, 1, 41).expand(1, 3, 32, 41)
    assert (Srm()(ramp)[..., 3:-3] - 0.5).abs().max() < 1e-3
    step = torch.zeros(1, 3, 32, 32)
    step[..., 16:] = 1 / 255
    assert (Srm()(step) - 0.5).abs().max() > 0.05


def test_the_constraint_holds_after_steps_of_training():
    bayar = Bayar(3, 4)
    optimizer = torch.optim.Adam(bayar.parameters(), lr=0.1)
    start = bayar.weight().detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        (bayar(noise(16, 16)) - 1).square().mean().backward()
        optimizer.step()
    filters = bayar.weight()
    assert filters.shape == (4, 3, 5, 5) and not torch.allclose(filters, start, atol=0.05)
    assert torch.equal(filters[..., 2, 2], torch.full((4, 3), -1.0))
    assert torch.allclose(filters.sum((-2, -1)), torch.zeros(4, 3), atol=1e-5)
    assert bayar(torch.full((1, 3, 16, 16), 0.7)).abs().max() < 1e-5


def test_the_noiseprint_like_stack_returns_three_channels_of_the_spread_of_an_image():
    front = FRONTS["noiseprint"]()
    out = front(noise(32, 33, 4))
    assert out.shape == (4, 3, 32, 33)
    assert torch.allclose(out.mean((0, 2, 3)), torch.full((3,), 0.5), atol=1e-3)
    assert torch.allclose(out.std((0, 2, 3)), torch.full((3,), 0.25), atol=1e-2)
    assert sum(isinstance(layer, nn.Conv2d) for layer in front.modules()) == 7


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_end_sees_as_much_in_bf16(front):
    model = Fronted(FRONTS[front](), nn.Conv2d(3, 1, 1)).eval()
    images = noise(32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        seen = model.noise(images)
    assert torch.equal(seen, model.noise(images))


@pytest.mark.parametrize("front", FRONTS)
def test_a_model_of_any_plugin_stands_behind_a_front_end(front, own):
    registry, _ = own
    owned = registry.model(f"{front}+two-layer")
    assert (owned.plugin.name, [one.plugin.name for one in owned.inner]) == ("fronts", ["two_layer"])
    assert owned.spec.build().eval()(noise(33, 47)).shape == (2, 1, 33, 47)


def test_the_weights_and_what_they_were_trained_on_are_those_of_the_model_behind(registry):
    spec = registry.model("bayar+unet-resnet18").spec
    assert (spec.pretraining, spec.license) == ("imagenet", "MIT")
    assert spec.build(None)(noise(32, 32)).shape == (2, 1, 32, 32)


def test_whoever_edits_the_model_behind_has_another_model(own):
    registry, file = own
    before = source_hash(registry.model("srm+two-layer"))
    file.write_text(TWO_LAYER.replace("16", "8"))
    changed = load_plugins([str(file)])
    assert source_hash(changed.model("srm+two-layer")) != before
    assert source_hash(changed.model("srm+residual-unet")) == source_hash(registry.model("srm+residual-unet"))


def test_a_loss_of_the_model_behind_sees_what_the_front_end_returns():
    class Behind(nn.Module):
        def training_loss(self, images, masks):
            return (images - masks).mean()

    srm, images = Srm(), noise(32, 32)
    fronted = OwnFronted(srm, Behind())
    assert torch.equal(fronted.training_loss(images, torch.zeros(2, 1, 32, 32)), srm(images).mean())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("srm+unet-resnt18", "unknown model 'unet-resnt18'. Did you mean 'unet-resnet18'"),
        ("srm+", r"unknown model 'srm\+'.* Plugins find more by name \(.*fronts.*\): deeploc-bench list models"),
        ("srm", "unknown model 'srm'"),
        ("smr+unet-resnet18", "unknown model 'smr.unet-resnet18'"),
        ("bayar+all-manipulated", "'all-manipulated' is not trained here, .* such as bayar.unet-resnet18"),
        ("bayar+srm+position-prior", "'position-prior' is not trained here"),
    ],
)
def test_what_cannot_stand_behind_a_front_end_is_told(name, told, registry):
    with pytest.raises((UsageError, PluginError), match=told):
        registry.model(name)


def test_a_name_with_a_plus_is_only_of_a_model_that_is_made_of_another(tmp_path):
    (tmp_path / "joins.py").write_text(FINDER)
    registry = load_plugins([str(tmp_path / "joins.py")])
    assert registry.model("twice+residual-unet").inner == (registry.model("residual-unet"),)
    with pytest.raises(PluginError, match="plugin joins: model 'alone.x' has a '.', and is made of no other"):
        registry.model("alone+x")
    (tmp_path / "listed.py").write_text(TWO_LAYER.replace('"two-layer"', '"two+layer"'))
    with pytest.raises(PluginError, match="a model is called 'two.layer'; expected lower-case letters"):
        load_plugins([str(tmp_path / "listed.py")])


@pytest.mark.parametrize("what", ["srm+two-layer", "srm+two-layer+0.5*dice+0.5*focal"])
def test_the_speed_of_a_model_is_found_whatever_its_loss_is_called(tmp_path, what):
    measured = '{"model": "%s", "device": "cpu", "size": 64, "threads": 1, "parameters": %d, "flops_per_image": 1, '
    measured += '"peak_memory_mib": 1, "latency_ms": 1, "images_per_second": 1}'
    file = tmp_path / "speed.json"
    file.write_text("[" + ", ".join([measured % ("srm+two-layer", 1), measured % ("srm", 2)]) + "]")
    assert read_speed(file, what).parameters == 1
    with pytest.raises(UsageError, match="unknown model 'unet'"):
        read_speed(file, "unet+dice")


@pytest.mark.slow
def test_a_fronted_model_is_trained_compared_and_submitted_by_its_name(deeploc, tiny, tmp_path):
    tiny[tiny.index("residual-unet")] = "srm+residual-unet"
    done = deeploc("run", *tiny, "--model", "bayar+residual-unet", "--set", "epochs=1")
    assert done.returncode == 0 and "srm+residual-unet + jaccard" in done.stdout, done.stderr
    compared = deeploc("compare", "srm+residual-unet+jaccard", "bayar+residual-unet+jaccard")
    assert compared.returncode == 0, compared.stderr
    submitted = deeploc("submit", "srm+residual-unet+jaccard", "--suite", "tiny", "--contact", "me")
    assert (tmp_path / "leaderboard/submissions/tiny/srm-residual-unet-jaccard.json").exists(), submitted.stderr
    (folder,) = tmp_path.glob("runs/tiny/srm+residual-unet+jaccard/dark/seed0-*")
    (image,) = list(folder.glob("examples/*.png"))[:1]
    assert deeploc("predict", folder, image, "-o", "out").returncode == 0
    assert deeploc("check", "srm+residual-unet").returncode == 0
