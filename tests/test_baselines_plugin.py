"""The three baselines: what each predicts, what it learns, and that it learns nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deeploc_bench_plugins import baselines
from deeploc_bench_plugins.baselines import best_threshold, logistic_regression, noise_features
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F  # noqa: N812

MODELS = {model.name: model for model in baselines.deeploc_models()}
FITTED = ("position-prior", "local-noise")


def smoother(images):
    return F.avg_pool2d(F.pad(images, (1,) * 4, mode="reflect"), 3, stride=1)


def rougher(images):
    return (images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(9))).clamp(0, 1)


def batches_of(count, *, seed=0, size=(64, 64), edit=smoother):
    """Return batches of two noisy images, each with one patch that is edited, of 24 x 20 pixels, at the upper left."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        images = 0.5 + 0.05 * torch.randn(2, 3, *size, generator=random)
        masks = torch.zeros(2, 1, *size)
        for mask in masks:
            top, left = torch.randint(0, 12, (2,), generator=random)
            mask[:, top : top + 24, left : left + 20] = 1
        found.append((torch.where(masks > 0, edit(images), images), masks))
    return found


def fitted(name, **about):
    module = MODELS[name].build()
    if MODELS[name].fits_itself:
        module.fit(batches_of(6, **about), batches_of(3, seed=1, **about))
    return module


@torch.no_grad()
def mean_iou(module, batches):
    """Return the mean IoU of a module at heatmap > 0.5, worked out image by image."""
    ious = []
    for images, masks in batches:
        for logits, mask in zip(module(images), masks, strict=True):
            pred, truth = logits.sigmoid().numpy() > 0.5, mask.numpy() > 0.5
            ious.append((pred & truth).sum() / (pred | truth).sum())
    return float(np.mean(ious))


def test_only_all_manipulated_learns_nothing():
    assert {name: model.fits_itself for name, model in MODELS.items()} == {
        "all-manipulated": False,
        "position-prior": True,
        "local-noise": True,
    }
    assert all(model.baseline and model.pretraining == "none" for model in MODELS.values())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(32, 32), (37, 53), (100, 36)])
def test_logits_have_the_shape_of_the_images_before_and_after_fitting(name, size):
    for module in (MODELS[name].build(), fitted(name, size=size)):
        logits = module(torch.rand(3, 3, *size))
        assert (logits.shape, logits.dtype) == ((3, 1, *size), torch.float32)


@pytest.mark.parametrize("name", MODELS)
def test_the_prediction_does_not_depend_on_autocast_or_on_its_neighbours_in_the_batch(name):
    module, ((images, _),) = fitted(name), batches_of(1, seed=5)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(images).float(), module(images.float()))
    torch.testing.assert_close(module(images)[1:], module(images[1:]))


@pytest.mark.parametrize("name", FITTED)
def test_fitted_twice_it_is_the_same_to_the_last_bit_and_draws_from_no_global_stream(name):
    before = np.random.get_state()[1].tolist()
    first, second = (fitted(name).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("name", FITTED)
def test_what_is_learned_can_be_loaded_into_another(name):
    module, other, images = fitted(name), MODELS[name].build(), torch.rand(2, 3, 40, 48)
    other.load_state_dict(module.state_dict())
    assert torch.equal(module(images), other(images))


def test_all_manipulated_predicts_every_pixel():
    assert (MODELS["all-manipulated"].build()(torch.rand(2, 3, 37, 53)).sigmoid() > 0.5).all()


def test_the_position_prior_is_the_mean_training_mask_whatever_the_image():
    batches = batches_of(6)
    module = fitted("position-prior")
    mean = torch.cat([masks for _, masks in batches]).mean(dim=0, keepdim=True)
    torch.testing.assert_close(module.prior, mean)
    assert torch.equal(module(torch.rand(1, 3, 64, 64)), module(torch.zeros(1, 3, 64, 64)))


def test_masks_of_any_size_are_averaged_by_area():
    (images, masks), module = batches_of(1)[0], MODELS["position-prior"].build()
    large = masks.repeat_interleave(2, dim=2).repeat_interleave(4, dim=3)
    module.fit([(images, masks), (large, large)], [(images, masks)])
    torch.testing.assert_close(module.prior, masks.mean(dim=0, keepdim=True))


def test_the_position_prior_predicts_where_it_is_above_its_threshold():
    module = fitted("position-prior")
    pred_mask = module(torch.rand(1, 3, 64, 64)).sigmoid() > 0.5
    assert torch.equal(pred_mask, module.prior > module.threshold.sigmoid())
    assert 0.05 < pred_mask.float().mean() < 0.5


def test_no_other_threshold_of_the_position_prior_is_better_on_the_validation_masks():
    module, valid = fitted("position-prior"), batches_of(3, seed=1)
    chosen = mean_iou(module, valid)
    for share in np.arange(0.01, 1, 0.01):
        module.threshold.copy_(module.prior.logit(1e-6).quantile(share))
        assert mean_iou(module, valid) <= chosen + 1e-9


def test_where_everything_is_manipulated_everything_is_predicted():
    images = torch.rand(2, 3, 40, 40)
    for name in FITTED:
        module = MODELS[name].build()
        module.fit([(images, torch.ones(2, 1, 40, 40))], [(images, torch.ones(2, 1, 40, 40))])
        assert (module(images) > 0).all()


def test_the_best_threshold_is_that_of_a_search_by_hand():
    random = torch.Generator().manual_seed(3)
    valid = [(torch.rand(2, 1, 8, 8 + n, generator=random), torch.rand(2, 1, 8, 8 + n).round()) for n in range(3)]
    valid.append((torch.rand(1, 1, 8, 8, generator=random), torch.zeros(1, 1, 8, 8)))  # the IoU of nothing is 1 or 0
    scores = torch.cat([images.flatten() for images, _ in valid])
    ordered = scores.sort().values
    tried = [ordered[0] - 1, *(ordered[len(ordered) * i // 100] for i in range(1, 100))]

    def iou_at(threshold):
        found = []
        for images, masks in valid:
            for image, mask in zip(images > threshold, masks > 0.5, strict=True):
                union = (image | mask).sum().item()
                found.append((image & mask).sum().item() / union if union else 1.0)
        return np.mean(found)

    best = best_threshold(lambda images: images, scores, valid)
    assert best == tried[int(np.argmax([iou_at(threshold) for threshold in tried]))]


def test_the_logistic_regression_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    features = random.normal(3, [1, 20, 0.01], (500, 3))
    likely = features @ [1, 0.05, 50] + random.normal(size=500)
    truth = likely > np.median(likely) + 0.5
    weight, bias = logistic_regression(torch.from_numpy(features), torch.from_numpy(truth).double())
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000).fit(features / [1, 20, 0.01], truth)
    np.testing.assert_allclose(weight * torch.tensor([1, 20, 0.01]), expected.coef_[0], rtol=0.01)
    np.testing.assert_allclose(bias, expected.intercept_, rtol=0.01)


def test_a_truth_that_the_features_tell_entirely_is_fitted_too():
    features = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    weight, bias = logistic_regression(features, (features[:, 0] > 0).double())
    assert torch.isfinite(weight).all() and torch.equal(features[:, 0] * weight + bias > 0, features[:, 0] > 0)


@pytest.mark.parametrize("edit", [smoother, rougher])
def test_local_noise_finds_a_patch_of_other_noise(edit):
    test = batches_of(3, seed=2, edit=edit)
    assert mean_iou(fitted("local-noise", edit=edit), test) > 2 * mean_iou(fitted("all-manipulated"), test)


@pytest.mark.parametrize("factor", [0.25, 4])
def test_less_noise_is_as_far_from_the_images_own_as_more(factor):
    ((images, masks),) = batches_of(1, edit=lambda images: 0.5 + factor * (images - 0.5))
    energy = noise_features(images)[:, :1]
    assert energy[masks > 0].median() == pytest.approx(2 * np.log(4), abs=0.5) and energy[masks == 0].median() < 0.5


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_local_noise_of_an_image_without_any_is_a_number(level):
    assert torch.isfinite(fitted("local-noise")(torch.full((1, 3, 32, 40), level))).all()
