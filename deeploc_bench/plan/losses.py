"""Loss expressions: weighted sums of losses, each with its parameters."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.registry import Registry
from deeploc_bench.contract.specs import OWN, Loss

LONGEST = 150
"""The most characters of an expression: with a model's name, its folder has a name that every file system takes."""
NUMBER = r"-?[0-9.]+(?:e-?[0-9]+)?"
TERM = re.compile(rf"(?:({NUMBER})\*)?([a-z0-9][a-z0-9._-]*)(?:\(([^()]*)\))?")
SETTING = re.compile(rf"([a-z][a-z0-9_]*)=({NUMBER})")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedLoss:
    """One term of a loss expression; `loss` is None for what the model brings itself.

    `parameters` are those that are not the loss's defaults, by name, sorted.
    """

    weight: float
    loss: Owned[Loss] | None
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the loss's name; `own` for what the model brings itself."""
        return self.loss.spec.name if self.loss else OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class LossExpression:
    """A weighted sum of losses, and its text, such as `0.5*dice+0.5*focal(gamma=3)`."""

    text: str
    terms: tuple[WeightedLoss, ...]

    @property
    def losses(self) -> list[Owned[Loss]]:
        """Return the losses out of plugins: all but what the model brings itself."""
        return [term.loss for term in self.terms if term.loss]


def parse_loss(text: str, registry: Registry) -> LossExpression:
    """Parse a loss or a weighted sum, such as `0.5*dice+0.5*focal(gamma=3)` or `own+dice`; raises UsageError."""
    if text.count("(") != text.count(")"):
        raise UsageError(f"loss {text!r}: a bracket is open; write for example focal(gamma=3)")
    terms = tuple(_parse_term(term, text, registry) for term in text.replace(" ", "").split("+"))
    canonical = text_of([(term.weight, term.name, term.parameters) for term in terms])
    if len(canonical) > LONGEST:
        raise UsageError(f"loss {canonical!r} has {len(canonical)} characters; at most {LONGEST} are allowed")
    return LossExpression(text=canonical, terms=terms)


def text_of(terms: Sequence[tuple[float, str, Mapping[str, float]]]) -> str:
    """Return the one text of a sum of weights, names and parameters that are not the defaults."""
    return "+".join(
        (f"{_shown(weight)}*" if weight != 1 else "") + name + _bracketed(parameters)
        for weight, name, parameters in terms
    )


def slug(text: str) -> str:
    """Return a loss expression without what shells and file systems take for more: `0.5xfocal-gamma3+dice`."""
    return re.sub("[(,]", "-", text.replace("*", "x")).replace("=", "").replace(")", "")


def _bracketed(parameters: Mapping[str, float]) -> str:
    listed = ",".join(f"{name}={_shown(value)}" for name, value in sorted(parameters.items()))
    return f"({listed})" if listed else ""


def _shown(number: float) -> str:
    """Return one text for one number, however it was written, without a `+`."""
    text = f"{number:g}"
    return (text if float(text) == number else repr(number)).replace("e+", "e")


def _parse_term(term: str, text: str, registry: Registry) -> WeightedLoss:
    match = TERM.fullmatch(term)
    if match is None:
        raise UsageError(
            f"loss {text!r}: {term!r} is not NAME or WEIGHT*NAME. Write for example 0.5*dice+0.5*focal, or "
            f"focal(gamma=3). Known losses: {', '.join(sorted(registry.losses))}; {OWN} is the model's own."
        )
    weight = _number(match[1] or "1")
    if weight is None or weight <= 0:
        raise UsageError(f"loss {text!r}: weight {match[1]!r} is not a number above 0")
    if match[2] == OWN:
        if match[3] is not None:
            raise UsageError(f"loss {text!r}: {OWN}, the model's own loss, takes no parameters")
        return WeightedLoss(weight=weight, loss=None)
    loss = registry.loss(match[2])
    parameters = {} if match[3] is None else _parse_parameters(match[3], text, loss.spec)
    return WeightedLoss(weight=weight, loss=loss, parameters=parameters)


def _parse_parameters(settings: str, text: str, loss: Loss) -> dict[str, float]:
    """Return the parameters between brackets but for those that are the loss's defaults; raises UsageError."""
    where = f"loss {text!r}"
    if not loss.parameters:
        raise UsageError(f"{where}: {loss.name} takes no parameters; write {loss.name} without brackets")
    values: dict[str, float] = {}
    for setting in settings.split(","):
        match = SETTING.fullmatch(setting)
        if match is None:
            known = ", ".join(sorted(loss.parameters))
            raise UsageError(f"{where}: {setting!r} is not PARAMETER=NUMBER; parameters of {loss.name}: {known}")
        name, value = match[1], _number(match[2])
        if name not in loss.parameters:
            raise UsageError(f"{where}: {unknown(f'parameter of {loss.name}', name, loss.parameters)}")
        if name in values:
            raise UsageError(f"{where}: parameter {name!r} of {loss.name} is set twice; set it once")
        if value is None:
            raise UsageError(f"{where}: {match[2]!r} is not a finite number")
        if isinstance(loss.parameters[name], int):
            if value % 1:
                raise UsageError(f"{where}: parameter {name!r} of {loss.name} takes whole numbers, not {match[2]}")
            value = int(value)
        values[name] = value
    return {name: value for name, value in sorted(values.items()) if value != loss.parameters[name]}


def _number(text: str) -> float | None:
    """Return a finite number, or None where the text is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
