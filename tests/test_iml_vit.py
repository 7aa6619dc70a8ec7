"""IML-ViT: its transformer is the plain one whose weights it starts from, and its loss weighs the borders of masks."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from conftest import fit_until
from deeploc_bench_plugins import iml_vit
from safetensors.torch import load_file, save_file
from scipy.ndimage import binary_dilation
from test_frozen_features import build, tiny_training  # noqa: F401
from timm.layers import resample_abs_pos_embed_nhwc
from torch.nn.functional import binary_cross_entropy_with_logits

from deeploc_bench import WeightsError

PLAIN = iml_vit.SIZES["iml-vit-small"].network
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(5)
    return timm.create_model(PLAIN).eval()


@pytest.fixture(scope="module")
def model(plain, tmp_path_factory):
    """The small model with the weights of a file."""
    file = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(plain.state_dict(), file)
    return build("iml-vit-small", file).eval()


def test_where_one_window_holds_all_patches_its_features_are_those_of_the_plain_transformer(model, plain):
    images = torch.rand(1, 3, 64, 64)  # 4 x 4 patches, a window
    places = plain.pos_embed[:, 1:].unflatten(1, (14, 14))  # without the class token's
    assert torch.equal(model.transformer.pos_embed, resample_abs_pos_embed_nhwc(places, (16, 16)))
    with torch.inference_mode():
        places = resample_abs_pos_embed_nhwc(model.transformer.pos_embed, (4, 4))
        tokens = plain.patch_embed.proj(images).flatten(2).transpose(1, 2) + places.flatten(1, 2)
        expected = plain.blocks(tokens).transpose(1, 2).unflatten(2, (4, 4))
        (features,) = model.transformer.forward_intermediates(images, indices=[11], intermediates_only=True)
    assert torch.allclose(features, expected, atol=1e-4)


def test_a_file_of_another_network_is_refused(tmp_path):
    save_file({"patch_embed.proj.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"'iml-vit-small'.*w\.safetensors does not hold the tensors") as error:
        build("iml-vit-small", tmp_path / "w.safetensors")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (70, 240)])
def test_images_of_any_size_have_logits_of_theirs(model, size):
    with torch.inference_mode():
        logits = model(torch.rand(1, 3, *size))
    assert logits.shape == (1, 1, *size) and logits.isfinite().all()


def test_the_loss_weighs_pixels_within_three_of_a_border(model):
    images, mask = torch.rand(1, 3, 40, 48), np.zeros((40, 48), bool)
    mask[8:30, 20:] = mask[33, 3] = True
    cross = np.zeros((7, 7), bool)
    cross[3] = cross[:, 3] = True
    edges = binary_dilation(mask, cross) & binary_dilation(~mask, cross)
    assert 0 < edges.sum() < mask.size / 2
    truth, weights = (torch.from_numpy(one)[None, None].float() for one in (mask, 1 + 20 * edges))
    with torch.inference_mode():
        expected = binary_cross_entropy_with_logits(model(images), truth, weight=weights)
        assert model.training_loss(images, truth).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.slow
def test_it_is_trained_by_its_own_loss(tmp_path):
    training = tiny_training("iml-vit-small", epochs=1, loss="own")
    fit_until(training, tmp_path)
    start, after = build("iml-vit-small", seed=training.seed).state_dict(), load_file(tmp_path / "model.safetensors")
    assert {name for name, value in start.items() if torch.equal(value, after[name])} == set()


@pytest.mark.slow
def test_the_model_of_the_papers_size_pads_to_1024():
    with torch.inference_mode():
        seen, model = [], build("iml-vit").eval()
        model.pyramid[2].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
        assert model(torch.rand(1, 3, 100, 60)).shape == (1, 1, 100, 60)
    assert seen == [(1, 768, 64, 64)]
