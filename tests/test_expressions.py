"""Loss expressions are weighted sums, and what is none of them is refused with an example."""

from __future__ import annotations

import pytest
import torch

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.plan.losses import parse_loss
from deeploc_bench.training.build import build_loss


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("1*jaccard", "jaccard"),
        ("1.0*dice", "dice"),
        (".25*dice", "0.25*dice"),
        ("0.50*dice+0.5*focal", "0.5*dice+0.5*focal"),
        ("1e-3*dice", "0.001*dice"),
        ("2e2*dice", "200*dice"),
        ("0.1234567891*dice", "0.1234567891*dice"),
    ],
)
def test_one_loss_has_one_text_however_it_was_written(registry, text, same):
    assert parse_loss(text, registry).text == same
    assert parse_loss(same, registry).terms == parse_loss(text, registry).terms


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("jaccard", [(1.0, "jaccard")]),
        ("0.5*dice+0.5*focal", [(0.5, "dice"), (0.5, "focal")]),
        ("dice+2*focal+bce", [(1.0, "dice"), (2.0, "focal"), (1.0, "bce")]),
        (" 0.5 * dice + focal ", [(0.5, "dice"), (1.0, "focal")]),
        ("dice+dice", [(1.0, "dice"), (1.0, "dice")]),
    ],
)
def test_an_expression_is_a_weighted_sum_of_losses(registry, text, terms):
    found = parse_loss(text, registry)
    assert [(weight, owned.spec.name) for weight, owned in found.terms] == terms
    assert found.text == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "loss '': '' is not NAME or WEIGHT*NAME. Write for example 0.5*dice+0.5*focal. Known losses: bce, dice"),
        ("dice+", "loss 'dice+': '' is not NAME or WEIGHT*NAME"),
        ("dice-focal", "unknown loss 'dice-focal'"),
        ("dice*0.5", "'dice*0.5' is not NAME or WEIGHT*NAME"),
        ("-1*dice", "'-1*dice' is not NAME or WEIGHT*NAME"),
        ("0.5*0.5*dice", "'0.5*0.5*dice' is not NAME or WEIGHT*NAME"),
        ("Dice", "'Dice' is not NAME or WEIGHT*NAME"),
        ("0*dice", "weight '0' is not a number above 0"),
        ("1.2.3*dice", "weight '1.2.3' is not a number above 0"),
        ("9e999*dice", "weight '9e999' is not a number above 0"),
        ("1e-999*dice", "weight '1e-999' is not a number above 0"),
        ("0.5*dicee", "unknown loss 'dicee'. Did you mean 'dice'? Known: bce, dice, "),
    ],
)
def test_what_is_no_expression_is_refused_with_what_is_allowed(registry, text, told):
    with pytest.raises(UsageError) as caught:
        parse_loss(text, registry)
    assert told in str(caught.value)


def test_the_sum_is_of_the_weighted_losses(registry):
    random = torch.Generator().manual_seed(0)
    logits, masks = torch.randn(2, 1, 8, 8, generator=random), (torch.rand(2, 1, 8, 8, generator=random) > 0.5).float()
    bce, focal = (build_loss(parse_loss(name, registry))(logits, masks) for name in ("bce", "focal"))
    both = build_loss(parse_loss("0.25*bce+2*focal", registry))(logits, masks)
    torch.testing.assert_close(both, 0.25 * bce + 2 * focal)
    torch.testing.assert_close(bce, torch.nn.functional.binary_cross_entropy_with_logits(logits, masks))
