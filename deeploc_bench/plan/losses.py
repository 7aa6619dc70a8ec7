"""Loss expressions: weighted sums of losses."""

import re
from dataclasses import dataclass
from math import isfinite

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.registry import Owned, Registry
from deeploc_bench.contract.specs import Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class LossExpression:
    """A weighted sum of losses, and its text, such as `0.5*dice+0.5*focal`."""

    text: str
    terms: tuple[tuple[float, Owned[Loss]], ...]


def parse_loss(text: str, registry: Registry) -> LossExpression:
    """Parse `NAME` or a weighted sum such as `0.5*dice+0.5*focal`; raises UsageError."""
    terms = tuple(_parse_term(term, text, registry) for term in text.replace(" ", "").split("+"))
    words = [owned.spec.name if weight == 1 else f"{_shown(weight)}*{owned.spec.name}" for weight, owned in terms]
    return LossExpression(text="+".join(words), terms=terms)


def _shown(weight: float) -> str:
    """Return one text for one weight, however it was written."""
    return f"{weight:g}" if float(f"{weight:g}") == weight else repr(weight)


def _parse_term(term: str, text: str, registry: Registry) -> tuple[float, Owned[Loss]]:
    match = re.fullmatch(r"(?:([0-9.]+(?:e-?[0-9]+)?)\*)?([a-z0-9][a-z0-9._-]*)", term)
    if match is None:
        raise UsageError(
            f"loss {text!r}: {term!r} is not NAME or WEIGHT*NAME. Write for example 0.5*dice+0.5*focal. "
            f"Known losses: {', '.join(sorted(registry.losses))}."
        )
    try:
        weight = float(match[1] or 1)
    except ValueError:
        weight = 0.0
    if not (isfinite(weight) and weight > 0):
        raise UsageError(f"loss {text!r}: weight {match[1]!r} is not a number above 0")
    return weight, registry.loss(match[2])
