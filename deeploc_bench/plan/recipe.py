"""Recipes: everything that fixes a training but model, loss, data and seed."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from deeploc_bench.contract.errors import RecipeError, unknown
from deeploc_bench.contract.files import read_toml
from deeploc_bench.contract.registry import Owned, Registry
from deeploc_bench.contract.specs import Loss, Model

Positive = Annotated[float, Meta(gt=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Size = Annotated[int, Meta(ge=32)]
FREE_KEYS = frozenset({"optimizer", "lr", "batch_size", "input_size"})
"""What a closed-division entry may choose itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that fixes a training but model, loss, data and seed.

    `size` (pixels) with `fit` fixes the training size; testing is at native size unless `input_size` (pixels) says
    what a model must be fed. Each image is blurred with `blur_probability` by a sigma drawn from U[0, `blur_sigma`]
    pixels, and mirrored with probability 1/2 if `flip`. `weights` is `default`, `none`, or a safetensors file.
    """

    name: str
    epochs: Annotated[int, Meta(ge=1)]
    optimizer: Literal["adam", "adamw", "sgd"]
    lr: Positive
    schedule: Literal["constant", "one-cycle"]
    batch_size: Annotated[int, Meta(ge=1)]
    size: Size
    fit: Literal["crop", "resize"]
    flip: bool
    blur_probability: Probability
    blur_sigma: Annotated[float, Meta(ge=0, le=10)]
    weights: str
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    input_size: Size | None = None


RECIPE_KEYS = tuple(field.name for field in fields(Recipe) if field.name != "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossExpression:
    """A weighted sum of losses."""

    text: str
    terms: tuple[tuple[float, Owned[Loss]], ...]


def named_recipes() -> dict[str, Recipe]:
    """Return the recipes that come with deeploc-bench, by name."""
    folder = files("deeploc_bench.plan") / "recipes"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return {
        entry.name[:-5]: _convert({"name": entry.name[:-5], **tomllib.loads(entry.read_text("utf-8"))}, entry.name)
        for entry in found
    }


def load_recipe(name: str) -> Recipe:
    """Return a named recipe, or the one in a TOML file; raises RecipeError."""
    named = named_recipes()
    if name in named:
        return named[name]
    path = Path(name)
    if not name.endswith(".toml"):
        raise RecipeError(unknown("recipe", name, named) + " Or give a .toml file.")
    return _convert({"name": path.stem, **read_toml(path, "recipe", RecipeError)}, name)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse `KEY=VALUE` texts, the values as TOML or else plain text; raises RecipeError for an unknown key."""
    values = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting!r} is not KEY=VALUE. Keys: {', '.join(RECIPE_KEYS)}.")
        if key not in RECIPE_KEYS:
            raise RecipeError(unknown("recipe key", key, RECIPE_KEYS))
        values[key] = _parse_value(text)
    return values


def resolve(recipe: Recipe, model: Model, settings: Mapping[str, Any]) -> Recipe:
    """Apply a model's overrides, then `settings`, and settle the weights; raises RecipeError."""
    values = {**_values(recipe), **model.recipe, **settings}
    resolved = _convert(values, f"{recipe.name} for model {model.name}")
    if model.pretraining == "none":
        if resolved.weights not in ("default", "none"):
            raise RecipeError(
                f"weights={resolved.weights!r}: model {model.name!r} is trained from scratch and takes no weights file"
            )
        return replace(resolved, weights="none")
    if resolved.weights not in ("default", "none") and not Path(resolved.weights).is_file():
        raise RecipeError(
            f"weights={resolved.weights!r}: there is no such file. Allowed: default, none, or a safetensors file."
        )
    return resolved


def weights_hash(recipe: Recipe) -> str | None:
    """Return the hash of the initial weights file, if the recipe names one."""
    if recipe.weights in ("default", "none"):
        return None
    with Path(recipe.weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def label(recipe: Recipe) -> str:
    """Return a recipe's name, with every value in which it differs from the named recipe."""
    return ", ".join([recipe.name, *(f"{key}={value}" for key, value in changes(recipe).items())])


def changes(recipe: Recipe) -> dict[str, Any]:
    """Return the values in which a recipe differs from the one it is named after (empty for a recipe file's own)."""
    base = named_recipes().get(recipe.name)
    if base is None:
        return {}
    before = _values(base)
    return {
        key: value
        for key, value in _values(recipe).items()
        if value != before.get(key) and not (key == "weights" and (value, before[key]) == ("none", "default"))
    }


def division(recipe: Recipe, pretraining: str | None) -> str:
    """Return `closed` or `open`, from the resolved recipe and the declared pretraining alone.

    Closed: equal to a named recipe except optimizer, lr, batch size and input size; weights none or trained on
    general images.
    """
    is_standard = recipe.name in named_recipes() and set(changes(recipe)) <= FREE_KEYS
    is_declared = pretraining is not None and recipe.weights in ("default", "none")
    return "closed" if is_standard and is_declared else "open"


def recorded(inputs: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a training.json; a model that is never trained records only what testing needs."""
    base = _values(named_recipes()["quick"])
    return _convert({**base, **inputs["recipe"], "name": inputs["recipe_name"]}, "of a training.json")


def from_values(values: Mapping[str, Any], where: str) -> Recipe:
    """Return the recipe of plain values, its name among them; raises RecipeError that names `where`."""
    return _convert(values, where)


def parse_loss(text: str, registry: Registry) -> LossExpression:
    """Parse `NAME` or a weighted sum such as `0.5*dice+0.5*focal`; raises UsageError."""
    terms = tuple(_parse_term(term, text, registry) for term in text.replace(" ", "").split("+"))
    return LossExpression(text=text.replace(" ", ""), terms=terms)


def _parse_term(term: str, text: str, registry: Registry) -> tuple[float, Owned[Loss]]:
    match = re.fullmatch(r"(?:([0-9.]+(?:e-?[0-9]+)?)\*)?([a-z0-9][a-z0-9._-]*)", term)
    if match is None:
        raise RecipeError(
            f"loss {text!r}: {term!r} is not NAME or WEIGHT*NAME. Write for example 0.5*dice+0.5*focal. "
            f"Known losses: {', '.join(sorted(registry.losses))}."
        )
    try:
        weight = float(match[1] or 1)
    except ValueError:
        weight = 0.0
    if not (isfinite(weight) and weight > 0):
        raise RecipeError(f"loss {text!r}: weight {match[1]!r} is not a number above 0")
    return weight, registry.loss(match[2])


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _values(recipe: Recipe) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(recipe)
    return values


def _convert(values: Mapping[str, Any], where: str) -> Recipe:
    for key in values:
        if key not in (*RECIPE_KEYS, "name"):
            raise RecipeError(f"recipe {where}: {unknown('recipe key', key, RECIPE_KEYS)}")
    try:
        return msgspec.convert(dict(values), Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"recipe {where}: {error}") from None
