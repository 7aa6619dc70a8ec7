"""What a model's logits become: heatmaps at native size, counts, and the IoU that chooses the best epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import TWO_LAYER
from PIL import Image
from reference import count
from safetensors.torch import save, save_file
from torch import nn

from deeploc_bench.contract.errors import PluginError, StoreError, TrainingFailed
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.batches import read_batch
from deeploc_bench.data.packs import pack
from deeploc_bench.data.perturb import parse_perturbation
from deeploc_bench.plan.facts import Testing
from deeploc_bench.plan.store import write_tensors
from deeploc_bench.scoring.metrics import image_ious
from deeploc_bench.training.evaluate import (
    Localizer,
    evaluate,
    heatmaps_of,
    ious_of,
    open_localizer,
    records_of,
    validation_iou,
)

CPU = torch.device("cpu")
SIZE = (40, 48)


class Fixed(nn.Module):
    """Gives every image the same logits, (h, w), whatever it shows."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.seen = logits, []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        return self.logits.expand(len(images), 1, *self.logits.shape)


class Brightness(nn.Module):
    """Calls bright pixels manipulated."""

    def forward(self, images):
        return 8 * (images.mean(dim=1, keepdim=True) - 0.5)


@pytest.fixture(scope="module")
def model(registry):
    return registry.model("residual-unet")


@pytest.fixture
def localizer(model):
    """Return a function from a module to a localizer."""

    def make(module, precision="fp32", input_size=None):
        return Localizer(module=module, model=model, device=CPU, precision=precision, input_size=input_size)

    return make


def everything(of):
    return slice(0, len(of))


def masks_of(of):
    return read_batch(of, np.arange(len(of)))[1]


def heatmaps(seed, images):
    """Heatmaps on 256 levels, ties at 0.5 among them."""
    levels = np.random.default_rng(seed).integers(0, 257, (images, *SIZE))
    return (levels / 256).astype(np.float32)


def test_records_have_the_columns_of_the_definition(small_pack):
    packed, predicted = small_pack(6), heatmaps(0, 6)
    found = records_of(packed, everything(packed), torch.from_numpy(predicted), torch.from_numpy(masks_of(packed)))
    expected = count(packed.ids, packed.sources, predicted, masks_of(packed))
    assert (found.ids, found.sources, found.preds) == (expected.ids, expected.sources, expected.preds)
    assert (found.counts == expected.counts).all() and (found.histograms == expected.histograms).all()
    assert (found.counts.dtype, found.histograms.dtype) == (np.int64, np.int32)
    assert len({*map(int, found.counts.sum(axis=0))}) == 6  # so that no two columns could be mistaken


def test_records_of_a_batch_name_its_own_images(small_pack):
    packed = small_pack(6)
    masks = torch.from_numpy(masks_of(packed)[2:4])
    found = records_of(packed, slice(2, 4), torch.zeros(2, *SIZE), masks)
    assert (found.ids, found.sources) == (("image-002", "image-003"), ("photo-1", "photo-1"))


@pytest.mark.parametrize("seed", range(5))
def test_the_iou_that_chooses_the_best_epoch_is_that_of_the_records(small_pack, seed):
    packed, predicted = small_pack(8, seed=seed), heatmaps(seed, 8)
    predicted[0] = 0
    expected = count(packed.ids, packed.sources, predicted, masks_of(packed))
    found = ious_of(torch.from_numpy(predicted), torch.from_numpy(masks_of(packed)))
    assert found.dtype == np.float64 and found.tolist() == image_ious(expected).tolist()


def test_an_iou_is_one_where_both_masks_are_empty_and_nothing_where_one_is():
    empty, full = torch.zeros(2, 3, 3), torch.ones(2, 3, 3)
    assert ious_of(empty, empty.bool()).tolist() == [1, 1]
    assert ious_of(full, empty.bool()).tolist() == ious_of(empty, full.bool()).tolist() == [0, 0]
    assert ious_of(full / 2, full.bool()).tolist() == [0, 0]  # exactly one half is no prediction


def test_validation_is_the_mean_over_the_images_of_all_packs(small_pack, localizer):
    packs = [small_pack(3), small_pack(40, seed=1)]
    every = [image_ious(evaluate(localizer(Brightness()), one)) for one in packs]
    expected = np.concatenate(every).mean()
    assert validation_iou(localizer(Brightness()), packs) == pytest.approx(expected, rel=1e-15)
    assert abs(expected - np.mean([ious.mean() for ious in every])) > 1e-4


def test_every_image_is_tested_once_in_order_of_its_id_whatever_the_batches(small_pack, localizer):
    packed = small_pack(40)
    images, masks = read_batch(packed, np.arange(40))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    expected = count(packed.ids, packed.sources, torch.sigmoid(Brightness()(pixels))[:, 0].numpy(), masks)
    found = evaluate(localizer(Brightness()), packed)
    assert found.ids == tuple(sorted(packed.ids)) and len(found) == 40
    assert (found.counts == expected.counts).all() and found.preds == expected.preds


def test_heatmaps_of_another_size_are_resized_bilinearly_and_not_to_the_nearest(small_pack, localizer):
    small = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    found, _ = heatmaps_of(localizer(Fixed(small), input_size=32), small_pack(2), slice(0, 2))
    picture = Image.fromarray(torch.sigmoid(small).numpy())
    bilinear, nearest = (
        np.asarray(picture.resize(SIZE[::-1], way)) for way in (Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
    )
    np.testing.assert_allclose(found[1].numpy(), bilinear, atol=1e-6)
    assert np.abs(found[1].numpy() - nearest).max() > 0.1
    assert ((bilinear > 0.5) != (nearest > 0.5)).any()


def test_the_heatmap_is_resized_and_not_the_logits(small_pack, localizer):
    steep = torch.tensor([-1.0, 9.0]).repeat_interleave(16).repeat(32, 1)  # sigmoid: 0.27 and 1.00
    found, _ = heatmaps_of(localizer(Fixed(steep), input_size=32), small_pack(1), slice(0, 1))
    expected = Image.fromarray(torch.sigmoid(steep).numpy()).resize(SIZE[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(found[0].numpy(), np.asarray(expected), atol=1e-6)


@pytest.mark.parametrize(("input_size", "seen"), [(None, (2, 3, *SIZE)), (64, (2, 3, 64, 64))])
def test_a_model_sees_the_native_size_or_the_input_size_that_it_declares(small_pack, localizer, input_size, seen):
    module = Fixed(torch.zeros(seen[2:]))
    found, masks = heatmaps_of(localizer(module, input_size=input_size), small_pack(2), slice(0, 2))
    assert module.seen == [seen] and found.shape == masks.shape == (2, *SIZE)


def test_a_model_sees_rgb_from_zero_to_one(small_pack, localizer):
    images = read_batch(packed := small_pack(2), np.arange(2))[0]
    found, _ = heatmaps_of(localizer(Brightness()), packed, slice(0, 2))
    logits = 8 * (images.mean(axis=3) / 255 - 0.5)
    np.testing.assert_allclose(found.numpy(), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_logits_that_are_nan_fail_the_training_and_name_the_file(small_pack, localizer):
    logits = torch.zeros(SIZE)
    logits[3, 4] = float("nan")
    with pytest.raises(TrainingFailed, match="the model's logits are NaN on image-002 or its batch"):
        heatmaps_of(localizer(Fixed(logits)), small_pack(4), slice(2, 4))


@pytest.mark.parametrize(("logit", "heatmap"), [(float("inf"), 1), (-float("inf"), 0)])
def test_logits_without_end_are_a_sure_heatmap(small_pack, localizer, logit, heatmap):
    found, _ = heatmaps_of(localizer(Fixed(torch.full(SIZE, logit))), small_pack(1), slice(0, 1))
    assert (found == heatmap).all()


def test_a_model_is_tested_as_in_use_and_not_as_in_training(small_pack, localizer):
    module = nn.Sequential(Brightness(), nn.Dropout(0.9)).train()
    found, _ = heatmaps_of(localizer(module), packed := small_pack(2), slice(0, 2))
    expected, _ = heatmaps_of(localizer(Brightness()), packed, slice(0, 2))
    assert (found == expected).all() and not found.requires_grad


def test_authentic_images_have_no_manipulated_pixel(tmp_path, localizer):
    shades = {"dark": 0, "light": 255}
    samples = [
        Sample(id=name, source=name, image=lambda level=level: np.full((*SIZE, 3), level, np.uint8), mask=None)
        for name, level in shades.items()
    ]
    packed = pack(samples, inverted=False, folder=tmp_path, tick=lambda: None)
    found = evaluate(localizer(Brightness()), packed)
    assert found.counts[:, :4].tolist() == [[0, 0, 0, 40 * 48], [0, 40 * 48, 0, 0]]
    assert found.histograms[:, 1].sum() == 0


def test_a_perturbed_test_set_is_perturbed_by_the_id_of_each_image(small_pack, localizer):
    packed, noise = small_pack(3), parse_perturbation("noise:0.1")
    images, masks = read_batch(packed, np.arange(3))
    noisy = torch.from_numpy(noise.apply(images, packed.ids)).permute(0, 3, 1, 2).float() / 255
    expected = count(packed.ids, packed.sources, torch.sigmoid(Brightness()(noisy))[:, 0].numpy(), masks)
    found = evaluate(localizer(Brightness()), packed, noise)
    assert found.preds == expected.preds != evaluate(localizer(Brightness()), packed).preds


def test_a_narrow_precision_is_only_inside_the_model(small_pack, localizer):
    torch.manual_seed(0)
    module, packed = nn.Conv2d(3, 1, 3, padding=1), small_pack(2)
    wide, narrow = (heatmaps_of(localizer(module, precision=p), packed, slice(0, 2))[0] for p in ("fp32", "bf16"))
    assert narrow.dtype == wide.dtype == torch.float32 and next(module.parameters()).dtype == torch.float32
    assert 0 < (narrow - wide).abs().max() < 0.02


@pytest.fixture
def trained(tmp_path):
    """A model of one convolution, and the file of its weights."""
    file = tmp_path / "plugin_of_two_layers.py"
    file.write_text(TWO_LAYER)
    model = load_plugins([str(file)]).models["two-layer"]
    weights = tmp_path / "model.safetensors"
    torch.manual_seed(7)
    write_tensors(weights, save, model.spec.build().state_dict(), about=None)
    return model, weights


def opened(model, weights, testing=None):
    testing = testing or Testing(weights="none", precision="fp32", input_size=64)
    return open_localizer(model, testing, weights=weights, device=CPU, precision="fp32")


def test_a_trained_model_is_opened_with_its_weights(trained):
    found = opened(*trained)
    torch.manual_seed(7)
    expected = trained[0].spec.build().state_dict()
    assert all((tensor == expected[name]).all() for name, tensor in found.module.state_dict().items())
    assert (found.precision, found.input_size, found.model) == ("fp32", 64, trained[0])


def test_a_model_that_is_never_trained_draws_the_same_weights_each_time(trained):
    first = opened(trained[0], None).module.state_dict()
    torch.manual_seed(3)
    again = opened(trained[0], None).module.state_dict()
    assert all((tensor == again[name]).all() for name, tensor in first.items())


@pytest.mark.parametrize("damage", ["cut", "noise", "other names", "missing"])
def test_weights_that_do_not_fit_are_one_message(trained, damage):
    model, weights = trained
    if damage == "other names":
        save_file({"other": torch.zeros(1)}, weights)
    elif damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:100] if damage == "cut" else b"noise")
    with pytest.raises(StoreError, match=r"model.safetensors is damaged (?s:.*); delete it and run again"):
        opened(model, weights)


@pytest.mark.parametrize("shape", [(20, 24), (40, 47)])
def test_logits_of_another_shape_are_the_models_mistake(small_pack, localizer, shape):
    with pytest.raises(
        PluginError, match=rf"logits of shape \(2, 1, {shape[0]}, {shape[1]}\) .* expected \(2, 1, 40, 48"
    ):
        heatmaps_of(localizer(Fixed(torch.zeros(shape))), small_pack(2), slice(0, 2))
