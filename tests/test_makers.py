"""The shipped makers on tiny images and tiny networks: what they fill, seeded, at any size; and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from conftest import environment
from deeploc_bench_plugins import makers

from deeploc_bench import PluginError

SIDES = (36, 44)


def maker(name):
    try:
        return import_module(f"deeploc_bench_plugins.makers.{name}")
    except PluginError as error:
        pytest.skip(str(error))


@pytest.fixture
def given():
    """Return two images, (2, 36, 44, 3), flat but for a hole of white noise, and the masks of the holes."""
    images, masks = np.full((2, *SIDES, 3), 90, np.uint8), np.zeros((2, *SIDES), np.bool_)
    images[:, :, 22:] = 160
    masks[:, 10:20, 15:30] = True
    images[masks] = np.random.default_rng(0).integers(0, 256, (int(masks.sum()), 3))
    return images, masks


def random(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", ["opencv:telea", "opencv:ns", "patchmatch:patchmatch"])
def test_a_classical_maker_fills_a_hole_from_its_surroundings(given, name):
    module, function = name.split(":")
    images, masks = given
    filled = getattr(maker(module), function)(images.copy(), masks, random())
    assert filled.dtype == np.uint8 and filled.shape == images.shape
    assert ((filled[masks] >= 85) & (filled[masks] <= 165)).all() and (filled[~masks] == images[~masks]).all()


def test_patchmatch_is_a_function_of_the_random_generator():
    module = maker("patchmatch")
    images, masks = (
        np.random.default_rng(1).integers(0, 256, (1, *SIDES, 3)).astype(np.uint8),
        np.zeros((1, *SIDES), bool),
    )
    masks[0, 8:28, 10:30] = True
    first, again, other = (module.patchmatch(images, masks, random(seed)) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_an_extra_that_is_not_installed_is_named_with_the_command():
    with pytest.raises(PluginError, match=r"cv3 cannot be imported .*: pip install 'deeploc-bench\[opencv\]'"):
        makers.needed("cv3", "opencv")


@pytest.fixture
def network(tmp_path):
    """Return a writer of ONNX files: inputs as name -> (type, channels, side), and nodes that make `out` of them."""
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto

    def write(inputs, nodes, output=types.FLOAT, side=None, **constants):
        shapes = {name: [1, channels, side or "h", side or "w"] for name, (_, channels) in inputs.items()}
        infos = [
            helper.make_tensor_value_info(name, getattr(types, kind), shapes[name])
            for name, (kind, _) in inputs.items()
        ]
        out = [helper.make_tensor_value_info("out", output, [1, 3, side or "h", side or "w"])]
        stored = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
        made = [helper.make_node(kind, takes.split(), [gives], **more) for kind, takes, gives, more in nodes]
        model = helper.make_model(helper.make_graph(made, "tiny", infos, out, stored), ir_version=9)
        model.opset_import[0].version = 17
        path = tmp_path / "tiny.onnx"
        onnx.save(model, path)
        return path

    return write


# image * (1 - mask) + mask, times 255, as LaMa's network has it: white in the hole
LAMA = [("Sub", "one mask", "known", {}), ("Mul", "image known", "kept", {}), ("Add", "kept mask", "sum", {})]
LAMA += [("Mul", "sum full", "out", {})]


@pytest.mark.parametrize("side", [None, 64])
def test_a_network_like_lamas_fills_at_any_size(given, network, side):
    inputs = {"image": ("FLOAT", 3), "mask": ("FLOAT", 1)}
    path = network(inputs, LAMA, side=side, one=np.float32(1), full=np.float32(255))
    images, masks = given
    filled = maker("onnx").inpaint(images, masks, random(), model=path, output_range="byte")
    assert filled.shape == images.shape and (filled[:, 12:18, 18:27] == 255).all()
    assert np.abs(filled[:, :, :10].astype(int) - 90).max() <= (0 if side is None else 1)


def test_a_network_of_levels_whose_mask_is_0_in_the_hole_fills_like_migans(given, network):
    inputs = {"image": ("UINT8", 3), "mask": ("UINT8", 1)}
    nodes = [("Div", "mask full", "known", {}), ("Mul", "image known", "out", {})]
    onnx = pytest.importorskip("onnx")
    path = network(inputs, nodes, output=onnx.TensorProto.UINT8, full=np.uint8(255))
    images, masks = given
    filled = maker("onnx").inpaint(images, masks, random(), model=path, hole=0)
    assert (filled[masks] == 0).all() and (filled[~masks] == images[~masks]).all()


def test_a_network_of_one_input_gets_the_mask_first_and_an_emptied_hole(given, network):
    split = [("Slice", "x zero one channel", "mask", {}), ("Slice", "x one four channel", "image", {})]
    nodes = [*split, ("Sub", "image mask", "shifted", {}), ("Add", "shifted half", "out", {})]
    numbers = {
        name: np.array([value], np.int64) for name, value in (("zero", 0), ("one", 1), ("four", 4), ("channel", 1))
    }
    path = network({"x": ("FLOAT", 4)}, nodes, half=np.float32(0.5), **numbers)
    images, masks = given
    options = {"image_range": "signed", "hole": 0, "blank": True, "mask_shift": -0.5}
    filled = maker("onnx").inpaint(images, masks, random(), model=path, **options)
    assert (filled[masks] == 255).all()  # 0 of an emptied hole, less -0.5, plus 0.5, is 1: white
    assert (filled[~masks] == images[~masks]).all()  # known is 1 - 0.5 = 0.5, which 0.5 makes good


def test_a_network_that_is_none_or_returns_another_range_is_told(given, network, tmp_path):
    inputs = {"image": ("FLOAT", 3), "mask": ("FLOAT", 1)}
    path = network(inputs, LAMA, one=np.float32(1), full=np.float32(255))
    module = maker("onnx")
    with pytest.raises(PluginError, match=r"returned values from .* to 255; say output_range=unit"):
        module.inpaint(*given, random(), model=path)
    (tmp_path / "other.onnx").write_text("no network")
    with pytest.raises(PluginError, match="option model="):
        module.inpaint(*given, random(), model=tmp_path / "other.onnx")


DIFFUSION = """
import json, pathlib, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

torch.manual_seed(0)
shape = {"block_out_channels": (32, 64), "layers_per_block": 1}
unet = UNet2DConditionModel(
    **shape, sample_size=8, in_channels=9, cross_attention_dim=32, attention_head_dim=8,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
)
vae = AutoencoderKL(**shape, down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2)
sides = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 2}
text = CLIPTextModel(CLIPTextConfig(**sides, vocab_size=99, bos_token_id=0, eos_token_id=2, pad_token_id=1))
words = {"<|startoftext|>": 0, "a</w>": 1, "<|endoftext|>": 2}
pathlib.Path("vocab.json").write_text(json.dumps(words))
pathlib.Path("merges.txt").write_text("#version: 0.2\\n")
tokenizer = CLIPTokenizer("vocab.json", "merges.txt", model_max_length=77)
StableDiffusionInpaintPipeline(
    vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=DDIMScheduler(steps_offset=1),
    safety_checker=None, feature_extractor=None, requires_safety_checker=False,
).save_pretrained("pipe")

from deeploc_bench_plugins.makers.diffusers import inpaint
images = np.random.default_rng(0).integers(0, 256, (1, 36, 44, 3)).astype(np.uint8)
masks = np.zeros((1, 36, 44), bool)
masks[0, 10:20, 15:30] = True
made = [inpaint(images, masks, np.random.default_rng(seed), model=pathlib.Path("pipe"), steps=2) for seed in (0, 0, 1)]
assert all(one.shape == images.shape and one.dtype == np.uint8 for one in made)
assert (made[0] == made[1]).all() and (made[0] != made[2]).any() and np.ptp(made[0]) > 20
print("seeded")
"""


@pytest.mark.slow
def test_a_tiny_diffusion_pipeline_fills_seeded_at_a_size_that_is_no_multiple_of_eight(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("diffusers")
    command = [sys.executable, "-c", DIFFUSION]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["seeded"]), done.stderr
