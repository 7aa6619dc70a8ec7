"""Collects the finished trainings of one model and loss out of a runs folder into a submission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.leaderboard import claims
from deeploc_bench.leaderboard.submission import SCHEMA, Submission
from deeploc_bench.plan import store
from deeploc_bench.plan.plan import budget_of
from deeploc_bench.plan.recipe import Recipe, division, label, recorded
from deeploc_bench.scoring.records import Records

UNTRAINED = "untrained"
"""The loss expression of a model that is never trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to collect; `recipe`, `budget` and `seeds` choose where there are several candidates."""

    suite: str
    model: str
    loss: str
    recipe: str | None = None
    budget: str | None = None
    seeds: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One finished training in a runs folder."""

    folder: Path
    inputs: Mapping[str, Any]

    @property
    def recipe(self) -> Recipe:
        """Return the resolved recipe."""
        return recorded(self.inputs)

    @property
    def train(self) -> tuple[str, ...]:
        """Return the generators trained on."""
        return tuple(self.inputs["train_generators"])

    @property
    def budget(self) -> str:
        """Return `matched` where less than all samples of its generators were trained on."""
        return budget_of(self.inputs)


def collect(runs: Path, wish: Wish, facts: Mapping[str, Any]) -> Submission:
    """Return the submission of the trainings that a wish means; `facts` are name, contact, date, links and the like.

    Raises UsageError where there is none, where there are several candidates, or where cells are missing.
    """
    found = _one_candidate(_trainings(runs, wish), wish)
    generators = sorted(found[0].inputs["standard_generators"])
    pairs = _pairs(found, wish, generators)
    seeds = sorted(wish.seeds or _complete_seeds(pairs, generators))
    records = {(seed, train): _records(one.folder) for seed, train, one in pairs if seed in seeds}
    known = {name: part for tests in records.values() for name, part in sorted(tests.items())}
    one = found[0]
    values = {
        "schema": SCHEMA,
        "suite": wish.suite,
        "model": one.inputs["model"],
        "loss": one.inputs["loss"] or [],
        "loss_expression": wish.loss,
        "recipe": msgspec.to_builtins(one.recipe),
        "budget": next((one.budget for one in found if len(one.train) > 1), "full"),
        "division": division(one.recipe, one.inputs["pretraining"]) if one.inputs["loss"] else "open",
        "pretraining": "none" if one.recipe.weights == "none" else one.inputs["pretraining"],
        "seeds": seeds,
        "fingerprint": one.inputs.get("fingerprint"),
        "generators": generators,
        "ids": {name: part.ids for name, part in known.items()},
        "sources": {name: part.sources for name, part in known.items()},
        "pixels": {name: part.pixels.tolist() for name, part in known.items()},
        "trainings": [
            {
                "seed": seed,
                "train_generators": train,
                "identity": one.inputs["identity"],
                "environment": _environment(one.folder),
                "tests": {name: _counts(part) for name, part in records[seed, train].items()},
            }
            for seed, train, one in pairs
            if seed in seeds
        ],
        "claims": {"loo": {"iou": 0.0, "low": None, "high": None, "spread": None, "by_generator": {}}, "worst": 0.0},
        **facts,
    }
    try:
        whole = msgspec.convert(values, Submission)
    except msgspec.ValidationError as error:
        raise UsageError(f"the submission cannot be made: {error}") from None
    tables = claims.tables_of(whole)
    if not claims.is_complete(whole, tables, "loo"):
        raise UsageError(
            f"seeds {seeds} of {wish.model}+{wish.loss} have not every loo training tested; run them first"
        )
    return msgspec.structs.replace(whole, claims=claims.claims_of(whole, tables))


def _pairs(found: Sequence[Found], wish: Wish, generators: list[str]) -> list[tuple[int, tuple[str, ...], Found]]:
    """Return each training with its seed and what it was trained on; an untrained model stands for every one."""
    if wish.loss != UNTRAINED:
        return [(one.inputs["seed"], one.train, one) for one in found]
    cells = [*claims.pairs_of("loo", generators), *claims.pairs_of("same", generators)]
    return [(0, train, found[0]) for train in dict.fromkeys(train for train, _ in cells)]


def _trainings(runs: Path, wish: Wish) -> list[Found]:
    found = []
    for folder in store.training_folders(runs):
        inputs = store.read_json(folder / "training.json") or {}
        is_done = store.is_trained(folder) or not inputs["loss"]
        is_mine = inputs["suite"] == wish.suite and inputs["model"]["name"] == wish.model
        if is_mine and is_done and (inputs["loss_expression"] or UNTRAINED) == wish.loss and not inputs.get("scored"):
            found.append(Found(folder=folder, inputs=inputs))
    if not found:
        raise UsageError(
            f"{runs} holds no finished training of {wish.model}+{wish.loss} on suite {wish.suite!r}. "
            "Run it first, all generators and seeds, with --protocol loo."
        )
    return found


def _one_candidate(found: list[Found], wish: Wish) -> list[Found]:
    groups: dict[tuple[str, str, str], list[Found]] = {}
    for one in found:
        groups.setdefault((label(one.recipe), one.recipe.name, one.inputs["model"]["source"]), []).append(one)
    labels = {key: part for key, part in groups.items() if wish.recipe in (None, key[0])}
    chosen = labels or {key: part for key, part in groups.items() if wish.recipe == key[1]}
    if len(chosen) != 1:
        names = "; ".join(f"--recipe {key[0]!r} (code {key[2]}, {len(part)} trainings)" for key, part in groups.items())
        raise UsageError(f"{wish.model}+{wish.loss} has {len(chosen)} candidates to submit; choose one: {names}")
    (mine,) = chosen.values()
    budgets = sorted({one.budget for one in mine if len(one.train) > 1})
    if len(budgets) > 1 and wish.budget is None:
        raise UsageError(f"{wish.model}+{wish.loss} has loo trainings of two budgets; choose: --budget full or matched")
    budget = wish.budget or (budgets[0] if budgets else "full")
    return [one for one in mine if len(one.train) <= 1 or one.budget == budget]


def _complete_seeds(pairs: Sequence[tuple[int, tuple[str, ...], Found]], generators: list[str]) -> list[int]:
    needed = {train for train, _ in claims.pairs_of("loo", generators)}
    seeds = sorted({seed for seed, _, _ in pairs})
    complete = [seed for seed in seeds if needed <= {train for other, train, _ in pairs if other == seed}]
    if not complete:
        raise UsageError("no seed has every loo training finished; run --protocol loo to the end first")
    return complete


def _records(folder: Path) -> dict[str, Records]:
    found = {name: store.read_records(folder, name) for name in store.tested(folder) if "@" not in name}
    return {name: records for name, records in found.items() if records is not None}


def _counts(records: Records) -> dict[str, Any]:
    tp, fp, fn = (part.tolist() for part in (records.tp, records.fp, records.fn))
    return {"tp": tp, "fp": fp, "fn": fn, "pred": records.preds}


def _environment(folder: Path) -> dict[str, Any]:
    found = store.read_json(folder / "environment.json") or {}
    return {
        "device": found.get("device_name") or found.get("device", "unknown"),
        "precision": found.get("precision", "fp32"),
        "threads": found.get("threads", 1),
        "processes": found.get("processes", 1),
        "wall_seconds": found.get("wall_seconds", 0.0),
        "peak_memory_mib": found.get("peak_memory_mib", 0.0),
        "parameters": found.get("parameters", 0),
        "versions": found.get("versions", {}),
    }
