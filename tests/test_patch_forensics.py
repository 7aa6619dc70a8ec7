"""Patch Forensics: each logit judges a patch, of the size that the paper states for the block it ends after."""

from __future__ import annotations

import pytest
import torch
from conftest import fit_until
from safetensors.torch import load_file
from test_frozen_features import build, tiny_training  # noqa: F401

from deeploc_bench.contract.loading import load_plugins

FIELDS = {1: 19, 2: 43, 3: 91}
"""The side in pixels of the patch that a logit judges, by the block."""
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("block", FIELDS)
def test_a_logit_depends_on_its_patch_and_on_nothing_else(block):
    torch.manual_seed(0)
    body = build(f"patch-forensics-block{block}").body.eval()
    images = torch.rand(1, 3, 131, 131, requires_grad=True)
    maps = body(images)
    middle = maps.shape[2] // 2
    (gradient,) = torch.autograd.grad(maps[0, :, middle, middle].square().sum(), images)
    (seen,) = gradient[0].abs().sum(dim=(0, 2)).nonzero(as_tuple=True)
    side = int(seen[-1] - seen[0]) + 1
    assert FIELDS[block] - 2 <= side <= FIELDS[block]


def test_the_default_ends_after_the_second_block_as_that_of_dolos(registry):
    default, second = registry.model("patch-forensics").spec.build(), build("patch-forensics-block2")
    shapes = [[(name, value.shape) for name, value in one.state_dict().items()] for one in (default, second)]
    assert shapes[0] == shapes[1]
    assert default.head.in_channels == 256


def test_convolutions_start_from_xaviers_distribution_with_a_small_gain():
    layer = build("patch-forensics-block2").body[3]  # of 32 channels of 3 x 3 to 64
    assert layer.weight.std().item() == pytest.approx(0.02 * (2 / (9 * (32 + 64))) ** 0.5, rel=0.05)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (130, 70)])
def test_images_of_any_size_have_logits_of_theirs(size):
    with torch.inference_mode():
        assert build("patch-forensics-block3").eval()(torch.rand(1, 3, *size)).shape == (1, 1, *size)


def test_it_is_trained_on_masks(tmp_path):
    training = tiny_training("patch-forensics", epochs=1)
    fit_until(training, tmp_path)
    torch.manual_seed(training.seed)
    start, after = load_plugins().model("patch-forensics").spec.build(), load_file(tmp_path / "model.safetensors")
    assert not any(torch.equal(value, after[name]) for name, value in start.named_parameters())
