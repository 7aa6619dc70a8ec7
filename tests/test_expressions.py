"""Loss expressions are weighted sums, and what is none of them is refused with an example."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import Loss
from deeploc_bench.plan.losses import parse_loss, slug
from deeploc_bench.training.build import TrainingLoss, build_loss


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
        ("1000000*dice", "1e06*dice"),
        ("focal(gamma=3.0)", "focal(gamma=3)"),
        ("focal(gamma=2)", "focal"),
        ("focal( gamma = .5 )", "focal(gamma=0.5)"),
        ("2*focal(gamma=3,alpha=0.25)+dice", "2*focal(alpha=0.25,gamma=3)+dice"),
        ("tversky(alpha=0.3,beta=0.8)", "tversky(beta=0.8)"),
        ("own+0.50*dice", "own+0.5*dice"),
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
        ("own+0.5*dice", [(1.0, "own"), (0.5, "dice")]),
    ],
)
def test_an_expression_is_a_weighted_sum_of_losses(registry, text, terms):
    found = parse_loss(text, registry)
    assert [(term.weight, term.name) for term in found.terms] == terms
    assert found.text == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "loss '': '' is not NAME or WEIGHT*NAME. Write for example 0.5*dice+0.5*focal, or focal"),
        ("dice+", "loss 'dice+': '' is not NAME or WEIGHT*NAME"),
        ("dice-focal", "unknown loss 'dice-focal'"),
        ("dice*0.5", "'dice*0.5' is not NAME or WEIGHT*NAME"),
        ("-1*dice", "weight '-1' is not a number above 0"),
        ("0.5*0.5*dice", "'0.5*0.5*dice' is not NAME or WEIGHT*NAME"),
        ("Dice", "'Dice' is not NAME or WEIGHT*NAME"),
        ("0*dice", "weight '0' is not a number above 0"),
        ("1.2.3*dice", "weight '1.2.3' is not a number above 0"),
        ("9e999*dice", "weight '9e999' is not a number above 0"),
        ("1e-999*dice", "weight '1e-999' is not a number above 0"),
        ("0.5*dicee", "unknown loss 'dicee'. Did you mean 'dice'? Known: bce, dice, "),
        ("focal(gama=3)", "unknown parameter of focal 'gama'. Did you mean 'gamma'? Known: alpha, gamma."),
        ("focal(gamma=high)", "'gamma=high' is not PARAMETER=NUMBER; parameters of focal: alpha, gamma"),
        ("focal(gamma)", "'gamma' is not PARAMETER=NUMBER"),
        ("focal()", "'' is not PARAMETER=NUMBER"),
        ("focal(gamma=9e999)", "'9e999' is not a finite number"),
        ("focal(gamma=1.2.3)", "'1.2.3' is not a finite number"),
        ("focal(gamma=3,gamma=3)", "parameter 'gamma' of focal is set twice"),
        ("lovasz(gamma=3)", "lovasz takes no parameters; write lovasz without brackets"),
        ("own(gamma=3)", "own, the model's own loss, takes no parameters"),
        ("focal(gamma=3", "a bracket is open"),
        ("+".join(["0.25*dice"] * 20), "has 199 characters; at most 150 are allowed"),
    ],
)
def test_what_is_no_expression_is_refused_with_what_is_allowed(registry, text, told):
    with pytest.raises(UsageError) as caught:
        parse_loss(text, registry)
    assert told in str(caught.value)


def test_the_sum_is_of_the_weighted_losses(registry):
    random = torch.Generator().manual_seed(0)
    logits, masks = torch.randn(2, 1, 8, 8, generator=random), (torch.rand(2, 1, 8, 8, generator=random) > 0.5).float()

    def loss(text):  # of a module that gives back what it gets
        return TrainingLoss(torch.nn.PReLU(init=1.0), None, parse_loss(text, registry), None)(logits, masks)

    torch.testing.assert_close(loss("0.25*bce+2*focal"), 0.25 * loss("bce") + 2 * loss("focal"))
    torch.testing.assert_close(loss("bce"), torch.nn.functional.binary_cross_entropy_with_logits(logits, masks))


def test_a_loss_is_built_with_what_an_expression_sets_and_its_defaults(registry):
    built = []
    spec = Loss(name="mine", build=lambda **numbers: built.append(numbers), parameters={"a": 1, "b": 0.5, "c": None})
    known = replace(registry, losses={"mine": Owned(spec=spec, plugin=registry.plugins[0])})
    for text in ("mine", "mine(a=2,c=-1)", "mine(a=1e1)"):
        build_loss(parse_loss(text, known).terms[0], torch.device("cpu"))
    assert built == [{"a": 1, "b": 0.5, "c": None}, {"a": 2, "b": 0.5, "c": -1.0}, {"a": 10, "b": 0.5, "c": None}]
    assert isinstance(built[1]["a"], int) and isinstance(built[1]["c"], float)
    with pytest.raises(UsageError, match="parameter 'a' of mine takes whole numbers, not 1.5"):
        parse_loss("mine(a=1.5)", known)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("net+0.5*dice+0.5*focal", "net+0.5xdice+0.5xfocal"),
        ("net+2*tversky(alpha=0.5,beta=0.5)+own", "net+2xtversky-alpha0.5-beta0.5+own"),
    ],
)
def test_a_folder_is_called_without_what_a_shell_takes_for_more(text, name):
    assert slug(text) == name
