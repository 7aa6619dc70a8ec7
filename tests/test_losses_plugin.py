"""The training losses: values worked by hand, and finiteness where it is hard."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from deeploc_bench_plugins import losses
from sklearn.metrics import log_loss

LOSSES = {loss.name: loss for loss in losses.deeploc_losses()}
BATCH_WISE = ("dice", "jaccard", "lovasz", "tversky")


def images_of(*rows):
    """One image of one row of pixels each: (N, 1, 1, W)."""
    return torch.tensor(rows, dtype=torch.float32)[:, None, None]


# Heatmaps 0.75 0.25 | 0.5 0.5 and masks 1 0 | 1 0, so that tp = 1.25, fp = 0.75, fn = 0.75.
LOGITS = images_of([math.log(3), -math.log(3)], [0, 0])
MASKS = images_of([1, 0], [1, 0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("jaccard", 1 - 1.25 / 2.75),
        ("dice", 1 - 2.5 / 4),
        ("tversky", 1 - 1.25 / (1.25 + 0.3 * 0.75 + 0.7 * 0.75)),
        ("bce", -(math.log(0.75) + math.log(0.5)) / 2),
        ("focal", -(0.25**2 * math.log(0.75) + 0.5**2 * math.log(0.5)) / 2),
    ],
)
def test_the_loss_of_two_small_images_is_the_one_worked_by_hand(name, expected):
    loss = LOSSES[name].build()(LOGITS, MASKS)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_tversky_weighs_a_miss_more_than_a_false_alarm():
    tversky, masks = LOSSES["tversky"].build(), images_of([1, 1, 0, 0])
    false_alarm, miss = tversky(images_of([9, 9, 9, -9]), masks), tversky(images_of([9, -9, -9, -9]), masks)
    assert false_alarm.item() == pytest.approx(0.3 / 2.3, abs=1e-3)
    assert miss.item() == pytest.approx(0.7 / 1.7, abs=1e-3)


def test_lovasz_of_hinge_errors_zero_or_two_is_twice_the_jaccard_loss():
    """With logits -1 and 1 each wrong pixel has the error 2, and the extension equals the set function."""
    logits, masks = images_of([1, 1, -1, -1]), images_of([1, 0, 1, 0])
    assert LOSSES["lovasz"].build()(logits, masks).item() == pytest.approx(2 * (1 - 1 / 3))


def test_lovasz_equals_its_definition_on_random_pixels():
    generator = np.random.default_rng(0)
    logits, masks = generator.normal(size=60), generator.random(60) < 0.3
    errors = 1 - logits * (2 * masks - 1)
    order, expected, before = np.argsort(-errors), 0.0, 0.0
    for taken in range(1, 61):  # Lovász extension: errors times the growth of the Jaccard loss of the worst pixels
        wrong = np.isin(np.arange(60), order[:taken])
        jaccard_loss = 1 - (masks & ~wrong).sum() / (masks | wrong).sum()
        expected += max(errors[order[taken - 1]], 0) * (jaccard_loss - before)
        before = jaccard_loss
    loss = LOSSES["lovasz"].build()(images_of(logits.tolist()), images_of(masks.tolist()))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_bce_equals_the_log_loss_of_scikit_learn():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float()
    expected = log_loss(masks.flatten(), logits.sigmoid().flatten().double())
    assert LOSSES["bce"].build()(logits, masks).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", BATCH_WISE)
def test_a_batch_wise_loss_sees_one_image_of_all_pixels(name):
    loss, masks = LOSSES[name].build(), images_of([1, 0], [1, 1])
    assert torch.allclose(loss(LOGITS, masks), loss(LOGITS.view(1, 1, 1, 4), masks.view(1, 1, 1, 4)))
    alone = torch.stack([loss(LOGITS[:1], masks[:1]), loss(LOGITS[1:], masks[1:])])
    assert not torch.allclose(loss(LOGITS, masks), alone.mean())


@pytest.mark.parametrize("name", sorted(set(LOSSES) - set(BATCH_WISE)))
def test_a_pixel_wise_loss_is_the_mean_over_images(name):
    loss = LOSSES[name].build()
    alone = torch.stack([loss(LOGITS[:1], MASKS[:1]), loss(LOGITS[1:], MASKS[1:])])
    assert torch.allclose(loss(LOGITS, MASKS), alone.mean())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0], ids=["empty", "mixed", "full"])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_loss_and_gradient_are_finite(name, dtype, share, scale):
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(2, 1, 9, 7, generator=generator) < share).float()
    logits = (scale * torch.randn(2, 1, 9, 7, generator=generator)).to(dtype).requires_grad_()
    loss = LOSSES[name].build()(logits, masks)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_equals_the_finite_difference(name):
    torch.manual_seed(1)
    loss, logits, masks = LOSSES[name].build(), torch.randn(2, 1, 3, 4), (torch.rand(2, 1, 3, 4) > 0.5).float()
    direction = torch.randn_like(logits)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, masks), logits)
    with torch.no_grad():
        slope = (loss(logits + 1e-2 * direction, masks) - loss(logits - 1e-2 * direction, masks)) / 2e-2
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), abs=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_a_better_prediction_has_a_smaller_loss(name):
    loss, masks = LOSSES[name].build(), images_of([1, 1, 0, 0, 0])
    right, worse, wrong = (loss(confidence * (2 * masks - 1), masks) for confidence in (3, 0.5, -3))
    assert right < worse < wrong


@pytest.mark.parametrize("name", LOSSES)
def test_logits_need_not_be_contiguous(name):
    loss, logits, masks = LOSSES[name].build(), torch.randn(2, 1, 8, 10), torch.ones(2, 1, 6, 7)
    assert torch.equal(loss(logits[..., :6, :7], masks), loss(logits[..., :6, :7].contiguous(), masks))


def test_every_loss_names_its_definition_and_licence():
    assert all(loss.reference.startswith("https://") and loss.license for loss in LOSSES.values())
    for name, loss in LOSSES.items():
        given = ",".join(f"{key}={value:g}" for key, value in loss.parameters.items() if value is not None)
        assert f"- {name}({given}):" in losses.__doc__ or f"- {name}:" in losses.__doc__
        assert all(f"`{key}`" in losses.__doc__ for key, value in loss.parameters.items() if value is None)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("jaccard", {"smooth": 1.0}, 1 - 2.25 / 3.75),
        ("dice", {"smooth": 1.0}, 1 - 4.5 / 6),
        ("tversky", {"alpha": 0.5, "beta": 0.5, "gamma": 2.0}, (1 - 1.25 / 2) ** 2),
        ("focal", {"gamma": 1.0}, -(0.25 * math.log(0.75) + 0.5 * math.log(0.5)) / 2),
        ("focal", {"gamma": 0.0, "alpha": 0.5}, -(math.log(0.75) + math.log(0.5)) / 4),
        ("focal", {"gamma": 0.0, "alpha": 1.0}, -(math.log(0.75) + math.log(0.5)) / 4),
        ("bce", {"pos_weight": 3.0}, -(math.log(0.75) + math.log(0.5)) * (3 + 1) / 4),
    ],
)
def test_parameters_do_what_the_definition_says(name, parameters, expected):
    assert set(parameters) <= set(LOSSES[name].parameters)
    assert LOSSES[name].build(**parameters)(LOGITS, MASKS).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_declared_defaults_are_those_of_the_build(name):
    loss = LOSSES[name]
    assert torch.equal(loss.build(**loss.parameters)(LOGITS, MASKS), loss.build()(LOGITS, MASKS))


def test_listing_the_losses_imports_neither_torch_nor_smp():
    code = (
        "import sys; from deeploc_bench_plugins import baselines, losses\n"
        "losses.deeploc_losses(), baselines.deeploc_models()\n"
        "print(sorted({'torch', 'timm', 'segmentation_models_pytorch'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
