"""The two models that look at nothing."""

import pytest
import torch
from deeploc_bench_plugins import baselines

MODELS = {model.name: model for model in baselines.deeploc_models()}


def logits_of(name, *shape):
    return MODELS[name].build()(torch.rand(shape))


def test_the_baselines_are_never_trained_and_know_nothing():
    assert list(MODELS) == ["all-manipulated", "centre-prior"]
    assert all(not model.trainable and model.pretraining == "none" for model in MODELS.values())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(64, 64), (37, 53), (100, 36)])
def test_logits_have_the_shape_of_the_images(name, size):
    logits = logits_of(name, 3, 3, *size)
    assert logits.shape == (3, 1, *size)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", MODELS)
def test_logits_lie_where_the_images_lie(name):
    assert MODELS[name].build()(torch.rand(2, 3, 32, 32, device="meta")).device.type == "meta"


@pytest.mark.parametrize("name", MODELS)
def test_there_is_nothing_to_train(name):
    assert not list(MODELS[name].build().parameters())


@pytest.mark.parametrize("name", MODELS)
def test_the_prediction_does_not_depend_on_the_image_or_its_precision(name):
    model, images = MODELS[name].build(), torch.rand(1, 3, 40, 48)
    assert torch.equal(model(images), model(1 - images))
    assert torch.equal(model(images), model(images.half()))


def test_all_manipulated_predicts_every_pixel():
    assert (logits_of("all-manipulated", 2, 3, 37, 53).sigmoid() > 0.5).all()


def test_centre_prior_predicts_the_middle_half_of_rows_and_columns():
    pred_mask = logits_of("centre-prior", 2, 3, 64, 96).sigmoid() > 0.5
    expected = torch.zeros(2, 1, 64, 96, dtype=torch.bool)
    expected[:, :, 16:48, 24:72] = True
    assert torch.equal(pred_mask, expected)


def test_centre_prior_is_symmetric_at_odd_sizes():
    pred_mask = logits_of("centre-prior", 1, 3, 37, 53).sigmoid() > 0.5
    assert torch.equal(pred_mask, pred_mask.flip(2, 3))
    assert pred_mask.sum() == 19 * 27  # of 37 rows and 53 columns, those with centres less than a quarter off centre


def test_centre_prior_falls_from_the_centre_to_the_border():
    logits = logits_of("centre-prior", 1, 3, 65, 65)[0, 0]
    assert logits[32, 32] == 1
    assert (logits[32, :32].diff() > 0).all()
    assert -1 < logits.min() < -0.9
