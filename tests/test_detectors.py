"""Detectors in files: the same records as the network they were made of, and one message for each mistake."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from conftest import records_of
from torch import nn

from deeploc_bench.conformance.checking import check
from deeploc_bench.contract.errors import DeeplocError, UsageError
from deeploc_bench.contract.source import source_hash
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.plan.recipe import settled_weights
from deeploc_bench.training.build import build_model
from deeploc_bench.training.trial import noise

PLAIN = """
name = "found"
file = "{file}"
trained_on = []

[output]
kind = "logits"
"""
ORDINARY = '''
"""The same network as a model of a plugin."""
from pathlib import Path
from deeploc_bench import Model, hookimpl

def build(weights):
    from safetensors.torch import load_file
    from torch import nn
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    net.load_state_dict(load_file(weights))
    return net

@hookimpl
def deeploc_models():
    weights = Path(__file__).with_name("net.safetensors")
    named = {"reference": None, "pretraining": None, "trainable": False, "weights": weights}
    return [Model(name="ordinary", build=build, trained_on=[], **named)]
'''
DESCRIPTIONS = Path(__file__).parents[1] / "docs/detectors"
FREE = {"images": {0: "n", 2: "h", 3: "w"}}


class Several(nn.Module):
    """Two outputs: coarse maps of two channels, and levels as they came in."""

    def forward(self, images):
        maps = nn.functional.avg_pool2d(images[:, :2], 4)
        return maps, images


class Squashed(nn.Sequential):
    def forward(self, images):
        return super().forward(images).sigmoid()


class Levels(nn.Module):
    """Its input, as it was fed."""

    def forward(self, images):
        return 10 * images


class Last(nn.Module):
    """Takes images with their channels last."""

    def forward(self, images):
        return images.mean(dim=3)


class Waves(nn.Module):
    """Complex numbers, whose imaginary part would be lost."""

    def forward(self, images):
        return torch.fft.fft2(images[:, :1])


class Broken(nn.Module):
    def forward(self, images):
        return images[:, :1] / (images[:, :1] - images[:, :1])


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))


def traced(module, file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript will not be developed any further
        torch.jit.trace(module.eval(), torch.rand(2, 3, 64, 64)).save(str(file))


def exported(module, file, shape=(1, 3, 64, 64), **options):
    pytest.importorskip("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is another exporter
        torch.onnx.export(module.eval(), (torch.rand(shape),), file, dynamo=False, input_names=["images"], **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder of exported networks."""
    folder = tmp_path_factory.mktemp("networks")
    traced(net(), folder / "net.pt")
    exported(net(), folder / "net.onnx", dynamic_axes=FREE)
    exported(net(), folder / "fixed.onnx")
    for name, module in {"several": Several(), "levels": Levels(), "squashed": Squashed(*net())}.items():
        traced(module, folder / f"{name}.pt")
    exported(Last(), folder / "last.onnx", (1, 64, 64, 3), dynamic_axes={"images": {0: "n", 1: "h", 2: "w"}})
    traced(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Softmax(dim=1)), folder / "shares.pt")
    traced(Broken(), folder / "broken.pt")
    traced(Waves(), folder / "waves.pt")
    torch.save(net().state_dict(), folder / "checkpoint.pt")
    (folder / "words.onnx").write_text("no network")
    (folder / "suite.toml").write_text('suite = "s"\n[[generator]]\nname = "g"\nsplit = "test"\nimages = "{id}.png"\n')
    return folder


@pytest.fixture
def described(files, registry):
    """Return a maker of models out of descriptions: their text, which is written beside the networks."""

    def model(text, name="made"):
        path = files / f"{name}.toml"
        path.write_text(text)
        return registry.model(str(path))

    return model


def built(owned):
    return build_model(owned, "none").eval()


def localized(owned, images):
    with torch.inference_mode():
        return built(owned)(images)


@pytest.mark.parametrize(("file", "off"), [("net.pt", 0.0), ("net.onnx", 1e-5)])
def test_a_network_in_a_file_returns_what_it_returned_before(described, file, off):
    images = noise(47, 64).contiguous()
    logits = localized(described(PLAIN.format(file=file)), images)
    with torch.inference_mode():
        assert (logits - net()(images)).abs().max() <= off


def test_images_are_fed_as_the_network_was_trained(described):
    text = PLAIN.format(file="levels.pt") + "channel = 2\n[input]\nchannels = 'BGR'\nrange = [0, 255]\nmultiple = 32\n"
    images = noise(33, 40)
    logits = localized(described(text + "mean = [1, 2, 3]\nstd = [1, 2, 4]\n"), images)
    assert torch.allclose(logits, 10 * (255 * images[:, :1] - 1), atol=1e-3)


def test_several_coarse_outputs_become_logits_of_the_size_of_the_images(described):
    images = noise(33, 40)
    text = PLAIN.format(file="several.pt") + "channel = 1\nstride = 4\nactivation = 'softmax'\n[input]\nmultiple = 4\n"
    logits = localized(described(text), images)
    padded = nn.functional.pad(images, (0, 0, 0, 3), mode="replicate")
    maps = nn.functional.interpolate(Several()(padded)[0], size=(36, 40), mode="bilinear")
    assert torch.allclose(logits.sigmoid(), maps.softmax(1)[:, 1:, :33], atol=1e-6)


def test_probabilities_and_scores_become_logits_that_say_the_same(described):
    images, text = noise(40, 40), PLAIN.format(file="squashed.pt")
    probabilities = net()(images).sigmoid()
    heatmaps = localized(described(text.replace("logits", "probabilities")), images).sigmoid()
    assert torch.allclose(heatmaps, probabilities, atol=1e-6)
    scores = localized(described(text.replace("logits", "scores") + "threshold = 0.4\nscale = 0.1\n"), images)
    assert torch.allclose(scores, (probabilities - 0.4) / 0.1, atol=1e-5)


def test_a_network_of_one_image_and_one_size_is_fed_so(described):
    text = PLAIN.format(file="fixed.onnx") + "[input]\nsize = 64\nbatch = 1\n"
    owned, images = described(text), noise(64, 64, 3)
    assert owned.spec.recipe == {"input_size": 64}
    with torch.inference_mode():
        assert torch.allclose(localized(owned, images), net()(images), atol=1e-5)


def test_a_detector_computes_in_the_precision_of_its_file(described):
    owned, images = described(PLAIN.format(file="net.pt")), noise(32, 32).contiguous()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(localized(owned, images), localized(owned, images))
        assert torch.allclose(localized(owned, images), net()(images).float(), atol=0.1)
    with torch.inference_mode():
        assert torch.equal(localized(owned, images), net()(images))


def test_what_is_declared_is_what_the_tables_are_told(described):
    facts = 'reference = "https://example.org"\nlicense = "own terms"\npretraining = "imagenet"\n'
    spec = described(facts + PLAIN.format(file="net.pt").replace("[]", '["lama"]')).spec
    assert (spec.name, spec.trainable, spec.trained_on, spec.is_detector) == ("found", False, ("lama",), True)
    assert (spec.reference, spec.license, spec.pretraining) == ("https://example.org", "own terms", "imagenet")


def test_what_is_described_otherwise_is_another_model(described, files):
    owned = described(PLAIN.format(file="net.pt"))
    before = source_hash(owned)
    assert source_hash(described(PLAIN.format(file="net.pt"), "moved")) == before
    assert source_hash(described(PLAIN.format(file="net.pt") + "channel = 0\n")) != before
    assert settled_weights(owned.spec, "none") == str(files / "net.pt")


MISTAKES = {
    "unknown key": (PLAIN.format(file="net.pt") + "chanel = 1\n", "unknown key 'chanel'. Did you mean 'channel'"),
    "no output": ('name = "found"\nfile = "net.pt"\n', "the key 'output' is missing"),
    "no file": ('name = "found"\n[output]\nkind = "logits"\n', "the key 'file' is missing"),
    "kind": (PLAIN.format(file="net.pt").replace("logits", "heat"), "expected one of logits, probabilities, scores"),
    "suffix": (PLAIN.format(file="net.bin"), "ends with '.bin'; expected one of .onnx, .pt"),
    "size and multiple": (PLAIN.format(file="net.pt") + "[input]\nsize = 64\nmultiple = 8\n", "say one of them"),
    "range": (PLAIN.format(file="net.pt") + "[input]\nrange = [1, 1]\n", "expected two different numbers"),
    "spread": (
        PLAIN.format(file="net.pt") + "[input]\nstd = [1, 0, 1]\n",
        "'input.std.1.' is 0; expected a number",
    ),
    "order": (PLAIN.format(file="net.pt") + "[input]\nchannels = 'GBR'\n", "expected one of BGR, RGB"),
    "stride": (PLAIN.format(file="net.pt") + "stride = 4\n", "say multiple = 4 in .input"),
    "stride and size": (
        PLAIN.format(file="net.pt") + "stride = 4\n[input]\nsize = 34\n",
        "say a size that it divides in .input",
    ),
    "joined name": (PLAIN.format(file="net.pt").replace("found", "a+b"), "name = 'a.b' has a '.', .* drop it"),
    "no threshold": (PLAIN.format(file="net.pt").replace("logits", "scores"), "and no threshold"),
    "threshold": (PLAIN.format(file="net.pt") + "threshold = 0.5\n", "only scores have one"),
    "activation": (
        PLAIN.format(file="net.pt").replace("logits", "probabilities") + "activation = 'softmax'\n",
        "and no logits; leave it out",
    ),
    "name": (PLAIN.format(file="net.pt").replace("found", "My Net"), "'My Net'; expected lower-case letters"),
    "taken": (PLAIN.format(file="net.pt").replace("found", "residual-unet"), "is the name of model 'residual-unet'"),
    "trained on": (PLAIN.format(file="net.pt").replace("[]", "'lama'"), "key 'trained_on' is 'lama'; expected a list"),
    "no toml": ("name = ", "is not TOML"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_a_description_is_one_message_that_names_it(described, what):
    text, told = MISTAKES[what]
    with pytest.raises(DeeplocError, match=told) as raised:
        described(text, "mistaken")
    assert "mistaken.toml" in str(raised.value) and "\n" not in str(raised.value)


FOUND = {
    "checkpoint": (PLAIN.format(file="checkpoint.pt"), "is not TorchScript .* A checkpoint holds weights alone"),
    "no network": (PLAIN.format(file="words.onnx"), "words.onnx cannot be opened"),
    "fixed side": (PLAIN.format(file="fixed.onnx") + "[input]\nbatch = 1\n", "its side is fixed: say size = 64"),
    "other side": (PLAIN.format(file="fixed.onnx") + "[input]\nsize = 96\nbatch = 1\n", "not that: say size = 64"),
    "fixed batch": (PLAIN.format(file="fixed.onnx") + "[input]\nsize = 64\n", "say batch = 1 in"),
    "missing stride": (
        PLAIN.format(file="several.pt"),
        "returns .2, 2, 16, 16. for images .2, 3, 64, 64.; with stride",
    ),
    "index": (PLAIN.format(file="several.pt") + "index = 2\n", "index = 2, and the network returns 2"),
    "complex": (PLAIN.format(file="waves.pt"), r"returns 1 \(torch.complex64\); say the index of maps of real numbers"),
    "channel": (PLAIN.format(file="net.pt") + "channel = 1\n", "need at least 2 channels; the network returns 1"),
    "softmax": (PLAIN.format(file="net.pt") + "activation = 'softmax'\n", "need at least 2 channels"),
    "logits": (
        PLAIN.format(file="levels.pt").replace("logits", "probabilities") + "channel = 0\n",
        "returns 0.* say kind = 'logits'",
    ),
    "channels": (PLAIN.format(file="levels.pt"), "returns 3 channels; say in .output. which .*such as channel = 1"),
    "softmax of one": (
        PLAIN.format(file="shares.pt") + "channel = 1\nactivation = 'softmax'\n",
        "what is one already, of sum 1; say kind = 'probabilities'",
    ),
    "sides first": (
        PLAIN.format(file="last.onnx"),
        "a side of 3 is none of an image; is it .N, H, W, 3.. Export it for .N, 3, H, W.",
    ),
    "probabilities": (PLAIN.format(file="squashed.pt"), "as probabilities; return logits, without sigmoid, or declare"),
    "not finite": (PLAIN.format(file="broken.pt"), "logits that are not finite"),
    "no such file": (PLAIN.format(file="gone.pt"), "gone.pt is not there. Put it there, or let its .* say where it is"),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_a_file_does_not_hold_is_found_by_the_first_probes(described, registry, files, what):
    text, told = FOUND[what]
    described(text)
    (checked,) = check(str(files / "made.toml"), registry=registry)
    failed = [str(found) for result in checked.results if not result.is_ok for found in result.findings]
    assert len(failed) == 1 and re.search(told, failed[0]), checked.text


def test_weights_that_lie_beside_an_onnx_file_are_refused(described, files):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(files / "net.onnx")
    onnx.save(model, files / "apart.onnx", save_as_external_data=True, size_threshold=0, location="apart.data")
    with pytest.raises(DeeplocError, match="its weights lie in another file, .* external_data=False"):
        built(described(PLAIN.format(file="apart.onnx")))


def test_the_description_of_a_suite_is_no_model(registry, files):
    with pytest.raises(UsageError, match="suite.toml: no plugin finds a model in it"):
        registry.model(str(files / "suite.toml"))


@pytest.mark.parametrize("file", sorted(DESCRIPTIONS.glob("*.toml")), ids=lambda file: file.stem)
def test_a_description_of_a_published_detector_is_read_and_says_where_its_file_is_missing(file, registry):
    spec = registry.model(str(file)).spec
    assert spec.reference.startswith("https://arxiv.org/abs/")
    with pytest.raises(DeeplocError, match=f"its weights file {file.parent}/.*.pt is not there. Put it there"):
        settled_weights(spec, "none")


def test_two_files_may_not_describe_models_of_one_name(described, files, registry):
    names = []
    for name in ("one", "two"):
        described(PLAIN.format(file="net.pt"), name)
        names.append(str(files / f"{name}.toml"))
    with pytest.raises(UsageError, match="one.toml and .*two.toml both describe a model 'found'; rename one"):
        prepare(Job(models=names), None, registry)


@pytest.mark.slow
def test_a_detector_has_the_records_of_the_same_network_as_an_ordinary_model(deeploc, tiny, files, tmp_path):
    from safetensors.torch import save_file

    save_file(net().state_dict(), tmp_path / "net.safetensors")
    (tmp_path / "ordinary.py").write_text(ORDINARY)
    tiny[tiny.index("residual-unet")] = "ordinary"
    for file in ("net.pt", "net.onnx"):
        (files / f"{file}.toml").write_text(PLAIN.format(file=file).replace("found", file.replace("net.", "in-")))
        tiny += ["--model", files / f"{file}.toml"]
    done = deeploc("run", *tiny, "--plugin", "ordinary.py")
    assert done.returncode == 0 and "in-onnx · trained elsewhere" in done.stdout, done.stderr
    tables = [
        [content for path, content in records_of(tmp_path / "runs/tiny" / name).items() if path.endswith(".csv")]
        for name in ("ordinary", "in-pt", "in-onnx")
    ]
    assert len(tables[0]) == 2 and tables[0] == tables[1] == tables[2]
    (folder,) = tmp_path.glob("runs/tiny/in-pt/untrained/*")
    (image,) = list(folder.glob("examples/*.png"))[:1]
    refused = deeploc("predict", folder, image, "-o", "out")
    assert (refused.returncode, "name the file that describes it, as --model of predict" in refused.stderr) == (2, True)
    assert deeploc("predict", folder, image, "-o", "out", "--model", files / "net.pt.toml").returncode == 0
    wrong = deeploc("predict", folder, image, "-o", "other", "--model", files / "net.onnx.toml")
    assert (wrong.returncode, "is 'in-onnx'" in wrong.stderr) == (2, True)
