"""The models of segmentation-models-pytorch: shapes, gradients, normalization, and where the weights come from."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import numpy as np
import pytest
import segmentation_models_pytorch as smp_library
import torch
from deeploc_bench_plugins import photos, smp
from PIL import Image
from safetensors.torch import load_file, save, save_file

from deeploc_bench import PluginError, WeightsError

SMALL = {
    **{architecture: f"{architecture}-resnet18" for architecture in sorted(smp.ARCHITECTURES - {"dpt"})},
    "dpt": "dpt-tu-vit_tiny_patch16_224",
}
pytestmark = pytest.mark.usefixtures("one_thread")


def build(name, weights=None, seed=0):
    torch.manual_seed(seed)
    return smp.deeploc_find_model(name).build(weights)


def run_python(code, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def unet():
    return build("unet-resnet18")


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache, without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def fill(cache, repository, revision, files):
    """Lay files out as huggingface_hub does: blobs, and links to them in the snapshot of a revision."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    for what in ("blobs", "refs", f"snapshots/{revision}"):
        (folder / what).mkdir(parents=True, exist_ok=True)
    (folder / "refs/main").write_text(revision)
    for number, (name, write) in enumerate(files.items()):
        write(folder / "blobs" / str(number))
        (folder / "snapshots" / revision / name).symlink_to(Path("../../blobs") / str(number))


def test_listing_the_models_imports_neither_torch_nor_smp_nor_timm():
    code = (
        "import sys; from deeploc_bench_plugins import smp\n"
        "assert len(smp.deeploc_models()) == 24 and smp.deeploc_find_model('residual-unet') is None\n"
        "print(sorted({'torch', 'timm', 'segmentation_models_pytorch'} & set(sys.modules)))"
    )
    process = run_python(code)
    assert process.stdout.strip() == "[]", process.stderr


def test_the_listed_models_are_those_of_the_poster():
    names = [model.name for model in smp.deeploc_models()]
    assert names[:3] == ["unet-resnet18", "unet-resnet34", "unet-resnet50"]
    assert {"unetplusplus-resnet50", "fpn-inceptionresnetv2", "fpn-xception"} < set(names)


def test_a_listed_model_is_described_as_the_found_one():
    for model in smp.deeploc_models():
        assert smp.deeploc_find_model(model.name).pretraining == model.pretraining == "imagenet"


def test_the_family_is_every_architecture_that_smp_has():
    assert set(smp_library.MODEL_ARCHITECTURES_MAPPING) == smp.ARCHITECTURES


@pytest.mark.parametrize("encoder", smp_library.encoders.get_encoder_names())
def test_every_encoder_of_smp_is_found(encoder):
    model = smp.deeploc_find_model(f"unet-{encoder}")
    assert model.name == f"unet-{encoder}"
    assert model.pretraining in smp_library.encoders.encoders[encoder]["pretrained_settings"]


@pytest.mark.parametrize(
    ("name", "pretraining"),
    [
        ("fpn-resnext50_32x4d", "imagenet"),
        ("unet-resnext101_32x48d", "instagram"),
        ("unet-tu-resnet18.a1_in1k", "imagenet"),
        ("unet-tu-convnext_tiny", "imagenet"),
        ("dpt-tu-vit_small_patch14_dinov2", "lvd142m"),
        ("unet-tu-resnet10t.c3_in1k", "imagenet"),
        ("unet-tu-regnetz_005", "none"),
    ],
)
def test_a_found_model_says_what_its_weights_were_trained_on(name, pretraining):
    assert smp.deeploc_find_model(name).pretraining == pretraining


@pytest.mark.parametrize(
    "name",
    [
        "unet",
        "unet-",
        "unet-resnet19",
        "vnet-resnet18",
        "unet-tu-",
        "unet-tu-resnet18.no_such_weights",
        "residual-unet",
    ],
)
def test_other_names_are_not_found(name):
    assert smp.deeploc_find_model(name) is None


def test_an_encoder_without_weights_builds_without_an_argument():
    model = smp.deeploc_find_model("fpn-tu-regnetz_005").build()
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("name", SMALL.values(), ids=SMALL)
def test_every_architecture_keeps_the_contract(name):
    """One test, because building takes the time: shapes, and gradients for exactly the unfrozen parameters."""
    model = build(name)
    assert model.training
    model.eval()
    with torch.inference_mode():
        for size in ((64, 64), (37, 53), (100, 36), (32, 32)):
            assert model(torch.rand(1, 3, *size)).shape == (1, 1, *size)
    assert all(parameter.grad is None for parameter in model.parameters())
    model.train().to(memory_format=torch.channels_last)
    logits = model(torch.rand(2, 3, 37, 53).contiguous(memory_format=torch.channels_last))
    logits.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad == (p.grad is None)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [model.name for model in smp.deeploc_models()])
def test_every_listed_model_keeps_the_contract(name):
    test_every_architecture_keeps_the_contract(name)


@pytest.mark.parametrize("name", ["unet-tu-resnet10t", "fpn-tu-convnext_atto", "upernet-mit_b0"])
def test_encoders_of_other_kinds_work(name, images):
    assert build(name)(images).shape == (2, 1, 64, 64)


@pytest.mark.slow
def test_an_encoder_of_fixed_input_size_takes_any_where_timm_lets_it(images):
    assert build("unet-tu-swin_tiny_patch4_window7_224")(images).shape == (2, 1, 64, 64)


def test_parameters_that_no_logit_depends_on_are_frozen():
    frozen = {name for name, p in build("pspnet-resnet18").named_parameters() if not p.requires_grad}
    assert frozen
    assert all(name.startswith(("network.encoder.layer3.", "network.encoder.layer4.")) for name in frozen)


def test_the_names_in_the_state_are_those_of_smp():
    expected = {f"network.{name}" for name in smp_library.Unet("resnet18", encoder_weights=None).state_dict()}
    assert set(build("unet-resnet18").state_dict()) == expected


def test_two_builds_under_one_seed_are_equal_and_under_two_are_not():
    first, second, other = (build("unet-resnet18", seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_building_changes_neither_weights_nor_random_numbers():
    torch.manual_seed(7)
    expected, draw = smp_library.Unet("resnet18", encoder_weights=None).state_dict(), torch.rand(1)
    state = build("unet-resnet18", seed=7).state_dict()
    assert all(torch.equal(state[f"network.{name}"], expected[name]) for name in expected)
    assert torch.equal(draw, torch.rand(1))


def test_padding_changes_nothing_where_none_is_needed(unet, images):
    unet.eval()
    with torch.inference_mode():
        assert torch.equal(unet(images), unet.network((images - unet.mean) / unet.std))


def test_padding_repeats_the_border_and_is_cropped_off(unet, images):
    unet.eval()
    padded = torch.nn.functional.pad(images[..., :37, :53], (0, 11, 0, 27), mode="replicate")
    with torch.inference_mode():
        assert torch.equal(unet(images[..., :37, :53]), unet(padded)[..., :37, :53])


def test_an_image_has_the_same_logits_in_any_memory_format(unet, images):
    unet.eval()
    with torch.inference_mode():
        expected = unet(images)
        assert torch.allclose(unet(images.contiguous(memory_format=torch.channels_last)), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["unet-resnet18", "fpn-tu-resnet10t"])
def test_a_model_works_under_bf16_autocast(name, images):
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(build(name)(images).float()).all()


def photograph():
    sample = next(iter(photos.deeploc_datasets())).build()["test"][0]
    image = sample.image() if callable(sample.image) else np.asarray(Image.open(sample.image).convert("RGB"))
    return image[:64, :64]


@pytest.mark.parametrize(
    ("encoder", "mean", "std"),
    [
        ("resnet18", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("xception", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("timm-tf_efficientnet_lite0", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("dpn68", [0.48627450980392156, 0.4588235294117647, 0.40784313725490196], [0.23482446870963955] * 3),
    ],
)
def test_normalization_equals_that_of_smp(cache, encoder, mean, std):
    """The figures are those of the config.json that smp keeps on the hub beside each encoder's weights."""
    settings = smp_library.encoders.encoders[encoder]["pretrained_settings"]["imagenet"]
    config = {"input_space": "RGB", "input_range": [0, 1], "mean": mean, "std": std}
    fill(cache, settings["repo_id"], settings["revision"], {"config.json": lambda p: p.write_text(json.dumps(config))})
    assert_normalizes_like_smp(f"unet-{encoder}", encoder)


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "tu-resnetv2_50x1_bit", "tu-tf_efficientnet_lite0"])
def test_normalization_of_timm_encoders_equals_that_of_smp(encoder):
    assert_normalizes_like_smp(f"fpn-{encoder}", encoder)


def assert_normalizes_like_smp(name, encoder):
    image, seen = photograph(), []
    expected = smp_library.encoders.get_preprocessing_fn(encoder)(image).transpose(2, 0, 1)
    model = build(name).eval()
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(torch.from_numpy(image / 255).permute(2, 0, 1)[None].float())
    np.testing.assert_allclose(seen[0][0].numpy(), expected, atol=1e-5)


def test_weights_from_a_file_are_the_encoder_s(tmp_path, unet):
    save_file(unet.network.encoder.state_dict(), tmp_path / "w.safetensors")
    other = build("fpn-resnet18", tmp_path / "w.safetensors", seed=9).network.encoder.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in unet.network.encoder.state_dict().items())


def test_weights_of_a_timm_encoder_come_from_a_file_too(tmp_path):
    expected = build("fpn-tu-resnet10t").network.encoder.state_dict()
    save_file(expected, tmp_path / "w.safetensors")
    state = build("unet-tu-resnet10t", str(tmp_path / "w.safetensors"), seed=9).network.encoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in expected.items())


def test_weights_that_do_not_fit_are_refused_with_file_and_names(tmp_path, unet):
    state = {name: value for name, value in unet.network.encoder.state_dict().items() if "bn1" not in name}
    save_file(state | {"head.bias": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as error:
        build("unet-resnet18", tmp_path / "w.safetensors")
    assert str(tmp_path / "w.safetensors") in str(error.value)
    assert '"bn1.weight"' in str(error.value)
    assert '"head.bias"' in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_weights_of_another_encoder_are_refused(tmp_path, unet):
    save_file(unet.network.encoder.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"'conv1\.weight' and so on.*size mismatch|Missing key"):
        build("unet-resnet34", tmp_path / "w.safetensors")


def test_a_pickle_is_never_loaded(tmp_path, unet):
    torch.save(unet.network.encoder.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth is not a safetensors file"):
        build("unet-resnet18", tmp_path / "w.pth")


def test_a_missing_weights_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors"):
        build("unet-resnet18", tmp_path / "nowhere.safetensors")


def test_default_weights_come_from_the_hugging_face_cache(cache, unet):
    expected = unet.network.encoder.state_dict()
    settings = smp_library.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    files = {"model.safetensors": lambda path: save_file(expected, path)}
    fill(cache, settings["repo_id"], settings["revision"], files)
    state = build("unet-resnet18", "default", seed=9).network.encoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in expected.items())


def test_default_weights_are_loaded_as_smp_loads_them(cache, unet):
    settings = smp_library.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    full = unet.network.encoder.state_dict() | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    files = {"model.safetensors": lambda path: save_file(full, path), "config.json": lambda path: path.write_text("{}")}
    fill(cache, settings["repo_id"], settings["revision"], files)
    expected = smp_library.Unet("resnet18", encoder_weights="imagenet").encoder.state_dict()
    state = build("unet-resnet18", "default").network.encoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in expected.items())


@pytest.mark.parametrize("name", ["fpn-tu-resnet10t", "dpt-tu-vit_tiny_patch16_224"])
def test_default_weights_of_timm_come_from_the_hugging_face_cache(cache, name):
    import timm

    torch.manual_seed(5)
    whole = timm.create_model(name.partition("-tu-")[2])
    repository = timm.get_pretrained_cfg(name.partition("-tu-")[2]).hf_hub_id
    fill(cache, repository, "0" * 40, {"model.safetensors": lambda path: save_file(whole.state_dict(), path)})
    state = build(name, "default").network.encoder.state_dict()
    shared = [key for key in whole.state_dict() if f"model.{key}" in state]
    assert len(shared) > 60
    assert all(torch.equal(whole.state_dict()[key], state[f"model.{key}"]) for key in shared)


@pytest.mark.parametrize(
    ("name", "repository"),
    [("unet-resnet18", "smp-hub/resnet18.imagenet"), ("unet-tu-resnet10t", "timm/resnet10t.c3_in1k")],
)
def test_missing_weights_are_an_error_that_names_the_ways_out(cache, name, repository):
    with pytest.raises(WeightsError) as error:
        build(name, "default")
    for what in (name, repository, str(cache), "weights=none", "weights=FILE.safetensors", "HF_HOME", "HF_HUB_OFFLINE"):
        assert what in str(error.value)


@pytest.mark.slow
def test_a_network_that_answers_nothing_is_asked_once(tmp_path):
    code = "from deeploc_bench_plugins import smp; smp.deeploc_models()[0].build('default')"
    process = run_python(code, HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0")
    assert "WeightsError: model 'unet-resnet18'" in process.stderr
    assert "Retrying" not in process.stderr  # huggingface_hub's five retries, which take half a minute


class Hub(BaseHTTPRequestHandler):
    """A hub that has one file, `content`, under any name."""

    content = b""

    def do_HEAD(self):
        self.send_response(200)
        for header, value in (("X-Repo-Commit", "0" * 40), ("ETag", '"1"'), ("Content-Length", len(self.content))):
            self.send_header(header, str(value))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_):
        """Stay silent."""


@pytest.mark.slow
def test_weights_that_the_network_has_are_downloaded_into_the_cache(tmp_path, unet):
    content = save(unet.network.encoder.state_dict())
    with ThreadingHTTPServer(("127.0.0.1", 0), type("FullHub", (Hub,), {"content": content})) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        code = "from deeploc_bench_plugins import smp; smp.deeploc_models()[0].build('default')"
        endpoint = f"http://127.0.0.1:{server.server_port}"
        process = run_python(code, HF_HOME=str(tmp_path), HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0")
        server.shutdown()
    assert process.returncode == 0, process.stderr
    (file,) = tmp_path.glob("hub/models--smp-hub--resnet18.imagenet/snapshots/*/model.safetensors")
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dpt-resnet18", "Only Timm encoders are supported for DPT"),
        ("linknet-mit_b0", "not supported for Linknet"),
        ("deeplabv3-densenet121", "do not support dilated mode"),
        ("unet-tu-vit_tiny_patch16_224", "Unsupported model downsampling pattern"),
        ("unet-tu-maxvit_tiny_tf_224", "must take images of any size"),
    ],
)
def test_a_pair_that_cannot_be_is_refused_with_the_reason_in_one_line(name, reason):
    with pytest.raises(PluginError, match=reason) as error:
        build(name)
    assert name in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_state_saved_and_loaded_gives_the_same_logits(tmp_path, unet, images):
    save_file(unet.state_dict(), tmp_path / "model.safetensors")
    again = build("unet-resnet18", seed=9)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.inference_mode():
        assert torch.equal(unet.eval()(images), again.eval()(images))
