"""Trainings that are finished, by their folders, and the models that can open them."""

from collections.abc import Sequence
from pathlib import Path

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.registry import Registry
from deeploc_bench.contract.source import source_hash
from deeploc_bench.contract.specs import Model
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Testing, TrainingFacts
from deeploc_bench.plan.plan import file_hash
from deeploc_bench.plan.recipe import settled_weights


def settings_of(folder: Path, facts: TrainingFacts) -> Testing:
    """Return what the tests of a training depend on; raises UsageError where no model can be asked."""
    if facts.settings is None:
        raise UsageError(f"{folder} holds predictions made elsewhere, not a model that can predict")
    return facts.settings


def model_of(folder: Path, facts: TrainingFacts, registry: Registry, asked: str | None = None) -> Owned[Model]:
    """Return the model of a finished training, by its name, or by the file that describes it.

    Raises UsageError where the training is not finished, or the model's code has changed.
    """
    name = facts.model.name
    if asked is None and facts.is_detector and not registry.find_model(name):
        raise UsageError(
            f"no plugin has {name!r}, the model of {folder}; name the file that describes it, as --model of predict or "
            "of run, which tests it on any suite"
        )
    owned = registry.model(asked or name)
    if owned.spec.name != name:
        raise UsageError(f"--model {asked} is {owned.spec.name!r}, and {folder} is of {name!r}; leave --model out")
    if source_hash(owned) != facts.model.source:
        raise UsageError(f"the code of model {owned.spec.name!r} has changed since {folder} was trained; train again")
    if owned.spec.weights and file_hash(settled_weights(owned.spec, "none")) != facts.weights:
        raise UsageError(f"{owned.spec.weights} has changed since {folder} was tested by these weights; test it again")
    if not store.is_ready(folder, facts):
        raise UsageError(f"{folder} is not finished; run its command again first")
    return owned


def folders_of(names: Sequence[str], runs: Path) -> list[Path]:
    """Return the folders of the trainings of these names, each once, in order.

    A name is a training's folder, or one that holds several, of which those are meant that were trained by a recipe;
    both also as they are called below the runs folder. Raises UsageError where there is no training.
    """
    found: dict[Path, None] = {}
    for name in names:
        place = next((place for place in (Path(name), runs / name) if place.is_dir()), Path(name))
        folders = [place] if (place / "training.json").exists() else _trained_in(place)
        if not folders:
            raise UsageError(
                f"{name} is not a training's folder, nor does it hold one (a folder with a training.json). "
                "'deeploc-bench results --json' names the trainings of a runs folder."
            )
        found |= dict.fromkeys(folders)
    return list(found)


def _trained_in(place: Path) -> list[Path]:
    folders = sorted(file.parent for file in place.rglob("training.json"))
    return [folder for folder in folders if store.read_facts(folder).kind == "trained"]
