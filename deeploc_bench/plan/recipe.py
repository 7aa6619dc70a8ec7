"""Recipes: everything that fixes a training but model, loss, data and seed."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import msgspec

from deeploc_bench.contract.errors import RecipeError, WeightsError, unknown
from deeploc_bench.contract.files import convert, parse_toml, read_toml
from deeploc_bench.contract.specs import Model
from deeploc_bench.plan.facts import Recipe, Testing

RECIPE_KEYS = tuple(name for name in Recipe.__struct_fields__ if name != "name")
FREE_KEYS = frozenset({"optimizer", "lr", "batch_size", "input_size", "weights"})
"""What a closed-division entry may choose itself, weights out of none and those of general images."""
NO_FILE = ("default", "none")
"""The values of `weights` that are not a file."""


@cache
def named_recipes() -> Mapping[str, Recipe]:
    """Return the recipes that come with deeploc-bench, by name."""
    folder = files("deeploc_bench.plan") / "recipes"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    texts = {entry.name.removesuffix(".toml"): entry.read_bytes() for entry in found}
    return {
        name: convert({"name": name} | parse_toml(text, f"recipe {name}", RecipeError), Recipe, name, RecipeError)
        for name, text in texts.items()
    }


def load_recipe(name: str) -> Recipe:
    """Return a named recipe, or the one in a TOML file; raises RecipeError."""
    if name in named_recipes():
        return named_recipes()[name]
    if not name.endswith(".toml"):
        raise RecipeError(unknown("recipe", name, named_recipes()) + " Or give a .toml file.")
    return read_toml(Path(name), Recipe, "recipe", RecipeError, name=Path(name).stem)


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
    """Apply a model's overrides, then `settings`, and settle the weights: a model from scratch takes none.

    A baseline keeps its own weights and input size, so that it is the same beside every row. Raises RecipeError or
    WeightsError.
    """
    values: dict[str, Any] = msgspec.to_builtins(recipe)
    if model.baseline:
        values["input_size"] = None
        settings = {key: value for key, value in settings.items() if key not in ("weights", "input_size")}
    values |= {**model.recipe, **settings}
    resolved = convert(values, Recipe, f"recipe {recipe.name} for model {model.name}", RecipeError)
    return msgspec.structs.replace(resolved, weights=settled_weights(model, resolved.weights))


def settled_weights(model: Model, weights: str) -> str:
    """Return what of `default`, `none` or a file a model is built with: a detector with those that it declares.

    Raises RecipeError or WeightsError where the file is not there.
    """
    if model.weights is not None:
        if not Path(model.weights).is_file():
            raise WeightsError(
                f"model {model.name!r}: its weights file {model.weights} is not there. Put it there, or let its plugin "
                "or description say where it is."
            )
        return str(model.weights)
    if model.pretraining == "none":
        return "none"
    if weights not in NO_FILE and not Path(weights).is_file():
        raise RecipeError(f"weights={weights!r}: there is no such file. Allowed: default, none, or a safetensors file.")
    return weights


def testing_of(recipe: Recipe) -> Testing:
    """Return what of a recipe matters to a model that is never trained by one."""
    return Testing(weights=recipe.weights, precision=recipe.precision, input_size=recipe.input_size)


def label(recipe: Recipe) -> str:
    """Return a recipe's name, with every value in which it differs from the named recipe."""
    return ", ".join([recipe.name, *changed_settings(recipe)])


def changed_settings(recipe: Recipe) -> list[str]:
    """Return the `KEY=VALUE` of each value in which a recipe differs from the one it is named after."""
    spelled = {True: "true", False: "false"}
    return [f"{key}={spelled[value] if isinstance(value, bool) else value}" for key, value in changes(recipe).items()]


def changes(recipe: Recipe) -> dict[str, Any]:
    """Return the values in which a recipe differs from the one it is named after (empty for a recipe file's own)."""
    base = named_recipes().get(recipe.name)
    if base is None:
        return {}
    return {key: getattr(recipe, key) for key in RECIPE_KEYS if getattr(recipe, key) != getattr(base, key)}


def division(recipe: Recipe | None, pretraining: str | None) -> Literal["closed", "open"]:
    """Return `closed` or `open`, from the resolved recipe and the declared pretraining alone.

    Closed: equal to a named recipe except optimizer, lr, batch size and input size; weights none or trained on
    general images. What has no recipe was not trained here, and is open.
    """
    if recipe is None or pretraining is None or recipe.weights not in NO_FILE:
        return "open"
    return "closed" if recipe.name in named_recipes() and set(changes(recipe)) <= FREE_KEYS else "open"


def _parse_value(text: str) -> Any:
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text
