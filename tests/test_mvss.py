"""The two-branch model supervised by borders: its shapes, its loss, and that it learns by it."""

from __future__ import annotations

import pytest
import torch
from deeploc_bench_plugins import mvss
from deeploc_bench_plugins.mvss.network import Border, Sobel, dice, edges_of, over_channels
from safetensors.torch import save_file
from test_smp_plugin import cache  # noqa: F401

from deeploc_bench import WeightsError
from deeploc_bench.training.trial import lesson, noise


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return next(iter(mvss.deeploc_models())).build(None)


def test_logits_have_the_size_of_the_images(network):
    network.eval()
    with torch.inference_mode():
        for size in ((32, 32), (37, 65)):
            assert network(noise(*size)).shape == (2, 1, *size)


def test_every_parameter_learns_by_its_own_loss(network):
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, 8:40, 8:40] = 1  # the other is a crop without an edit
    network.train().training_loss(noise(64, 64), masks).backward()
    assert [name for name, one in network.named_parameters() if one.grad is None or not one.grad.isfinite().all()] == []
    network.zero_grad()


def test_the_borders_are_those_of_the_masks_at_the_size_of_the_maps():
    masks = torch.zeros(2, 1, 32, 32)
    masks[0, :, 8:24, 12:32] = 1
    edges = edges_of(masks, torch.zeros(2, 1, 8, 8))
    assert edges[0, 0].int().tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert not edges[1].any()


def test_dice_is_zero_for_the_mask_and_defined_without_one():
    masks = (torch.rand(2, 1, 8, 8) > 0.5).float()
    assert float(dice(masks, masks)) == 0
    assert float(dice(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))) == 0
    assert 0 < float(dice(0.5 * masks, masks)) < 1


def test_sobel_halves_what_is_flat_and_keeps_what_is_steep():
    sobel, maps = Sobel().eval(), torch.ones(1, 4, 16, 16)
    maps[..., 8:] = 10
    kept = sobel(maps) / maps
    assert torch.allclose(kept[..., 4:7, 2:5], torch.tensor(0.5), atol=1e-3)
    assert (kept[..., 4:12, 7:9] > 0.99).all()
    maps = torch.zeros(1, 4, 16, 16, requires_grad=True)
    sobel(maps).sum().backward()
    assert maps.grad.isfinite().all()
    assert Border(4, 1)(maps).shape == (1, 1, 16, 16)


def test_channels_that_are_unlike_weigh_most():
    maps = torch.stack([torch.ones(4, 4), torch.ones(4, 4), -torch.ones(4, 4)])[None]
    assert torch.allclose(over_channels(maps)[0, 0], torch.tensor(-1.0), atol=1e-3)


@pytest.mark.slow
def test_weights_of_a_file_are_loaded_into_both_branches_and_others_are_refused(network, tmp_path):
    state = network.noise.state_dict() | {"fc.weight": torch.zeros(10, 512)}
    save_file(state, tmp_path / "resnet18.safetensors")
    built = mvss.deeploc_models()[0].build(str(tmp_path / "resnet18.safetensors"))
    for branch in (built.edges, built.noise):
        assert all(torch.equal(value, state[name]) for name, value in branch.state_dict().items())
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="other.safetensors is not a safetensors file of timm's resnet18"):
        mvss.deeploc_models()[0].build(str(tmp_path / "other.safetensors"))


def test_missing_weights_are_an_error_that_names_the_ways_out(cache):  # noqa: F811
    with pytest.raises(WeightsError, match="'mvss-resnet18'.* timm/resnet18.*, are not in .*weights=none.*HF_HOME"):
        mvss.deeploc_models()[0].build("default")


@pytest.mark.slow
def test_it_learns_by_its_own_loss(network):
    images, masks = lesson(64)
    optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = network.training_loss(images, masks)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_it_is_trained_on_a_suite_by_its_own_loss(deeploc, tiny, tmp_path):
    tiny[tiny.index("residual-unet")] = "mvss-resnet18"
    done = deeploc("run", *tiny, "--loss", "own", "--set", "epochs=1", "--protocol", "same")
    assert done.returncode == 0 and "mvss-resnet18 + own" in done.stdout, done.stderr
