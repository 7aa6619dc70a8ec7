"""`deeploc-bench score`: predictions made elsewhere, scored like any training's."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import StoreError, UsageError
from deeploc_bench.contract.registry import Registry
from deeploc_bench.contract.specs import AUTHENTIC, NAME_PATTERN, NAME_RULE
from deeploc_bench.data.suites import Suite
from deeploc_bench.data.survey import load_sound
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Code, TrainingFacts, identified, keeping_added
from deeploc_bench.plan.job import Job, Prepared, prepare_baselines
from deeploc_bench.plan.plan import untrained_facts
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.plan.store import Tested
from deeploc_bench.results.cells import Cell, cells_in
from deeploc_bench.results.export import cell_json
from deeploc_bench.results.render import as_text
from deeploc_bench.results.tables import score_tables
from deeploc_bench.scoring.metrics import false_alarm_area
from deeploc_bench.scoring.records import Records, to_csv


@click.command("score")
@click.argument("predictions")
@click.option("--suite", required=True, metavar="NAME|FILE.toml", help="Suite that the predictions are of.")
@click.option("--generator", metavar="NAME", help="The generator predicted. [all, a folder each]")
@click.option("--name", required=True, metavar="NAME", help="What to call whatever made the predictions.")
@click.option("--protocol", metavar="loo|same", help="Those on a generator were trained on all others, or on it.")
@click.option("--trained-on", metavar="G,...", help="What all were trained on; else there is no held-out row.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed trained from.")
@common.data_option
@common.plugin_option
@common.runs_option
@common.json_option
def command(
    *,
    predictions: str,
    generator: str | None,
    name: str,
    protocol: str | None,
    trained_on: str | None,
    seed: int,
    runs: str,
    as_json: bool,
    **asked: Any,
) -> None:
    """Score heatmaps or masks made elsewhere, one file a test image, called by its id: PNG, TIFF, NPY or NPZ.

    They become records like any training's, in the open division. `data export` writes the test images.
    """
    from deeploc_bench.training.prediction_sets import all_sets, declared, lacking, one_set
    from deeploc_bench.training.predictions import score_predictions

    registry = common.load(asked["plugins"])
    _check_name(name, registry)
    suite, _ = load_sound(
        registry.suite(asked["suite"]), data=asked["data"], progress=common.progress, threads=common.cores()
    )
    made, folder = declared(suite, protocol, trained_on), Path(predictions)
    sets = one_set(folder, suite, generator, made) if generator else all_sets(folder, suite, made)
    records = {}
    for one in sets:
        pack = suite.generators[one.pair.test_generator].splits["test"]
        with common.progress(f"score {one.place.name}", len(pack)) as tick:
            records[one.pair], told = score_predictions(one.place, pack, tick, beside=one.beside)
        for line in told:
            common.say(f"warning: {one.place}: {line}")
    for line in [] if generator else lacking(sets, suite):
        common.say(f"warning: {line}")
    facts = {pair: _facts(suite, name, pair.train_generators, seed) for pair in records}
    _keep_all(Path(runs), facts, records)
    if generator == AUTHENTIC and not as_json:
        (only,) = records.values()
        common.put(f"{len(only)} authentic images · false alarm area {false_alarm_area(only):.4f}")
        return
    # the baselines are kept beside the row, so that `results` prints what is printed here
    baselines = _test_baselines(prepare_baselines(Job(**asked), registry, suite, records), Path(runs))
    cells = _cells([Path(runs) / store.place_of(one) for one in facts.values()], baselines, records)
    if as_json:
        values = [cell_json(cell) for cell in cells]
        common.print_json({"suite": suite.name, "cells": values, "trained": 0, "reused": 0, "failed": []})
    else:
        common.put(as_text(*score_tables(cells)))


def _check_name(name: str, registry: Registry) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"--name is {name!r}; expected {NAME_RULE}")
    if name in registry.models:
        raise UsageError(f"--name {name!r} is a model of plugin {registry.models[name].plugin.name!r}; choose another")


def _facts(suite: Suite, name: str, train: tuple[str, ...], seed: int) -> TrainingFacts:
    facts = untrained_facts(suite, "scored", Code(name=name, distribution=None, version=None, source=None))
    return identified(msgspec.structs.replace(facts, train_generators=train, seed=seed))


def _keep_all(runs: Path, facts: Mapping[Pair, TrainingFacts], records: Mapping[Pair, Records]) -> None:
    """Keep all records, or none where others are there."""
    for keep in (_restore, _refuse_others, _refuse_copies, _keep):
        for pair, own in facts.items():
            data = own.test_data[pair.test_generator]
            keep(runs / store.place_of(own), own, Tested(generator=pair.test_generator), records[pair], data)


def _restore(folder: Path, facts: TrainingFacts, tested: Tested, records: Records, data: str) -> None:
    """Write the facts of a folder that has lost them, since its records can be read beside them alone."""
    if store.tested_in(folder) and not (folder / "training.json").exists():
        store.write_facts(folder, facts)


def _refuse_others(folder: Path, facts: TrainingFacts, tested: Tested, records: Records, data: str) -> None:
    before = store.read_records(folder, tested, data)
    if before is not None and to_csv(before) != to_csv(records):
        raise StoreError(
            f"{folder} holds other records of {tested.name}; nothing is overwritten. Choose another --name or "
            "--runs, or delete them first."
        )


def _refuse_copies(folder: Path, facts: TrainingFacts, tested: Tested, records: Records, data: str) -> None:
    """Raise StoreError where another seed has the same records: seeds are trainings, not names of one."""
    for other in sorted(folder.parent.glob("seed*")):
        before = store.read_records(other, tested, data) if other != folder else None
        if before is not None and to_csv(before) == to_csv(records):
            message = f"--seed {facts.seed}: these predictions of {tested.name} are those of {other}"
            raise StoreError(f"{message}. Another seed is another training; score each once.")


def _keep(folder: Path, facts: TrainingFacts, tested: Tested, records: Records, data: str) -> None:
    with store.locked(folder):
        store.sweep(folder)
        _refuse_others(folder, facts, tested, records, data)
        if (folder / "training.json").exists():
            facts = keeping_added(facts, store.read_facts(folder))
        store.write_facts(folder, facts)
        store.write_records(folder, tested, records, data)


def _test_baselines(prepared: Prepared, runs: Path) -> list[Path]:
    """Test what is not tested yet, and return the folders of all."""
    from deeploc_bench.training.engines import run_local
    from deeploc_bench.training.workplace import Workplace

    place = Workplace(runs=runs, device="cpu", threads=common.cores(), progress=common.progress, say=common.say)
    for identity, reason in run_local(prepared, place).failed.items():
        common.say(f"failed: {prepared.plan.trainings[identity].title}: {reason}")
    return [runs / training.place for training in prepared.plan.trainings.values()]


def _cells(scored: Sequence[Path], baselines: Sequence[Path], records: Mapping[Pair, Records]) -> list[Cell]:
    """Return the cells that were scored now, and those of the baselines beside them."""
    found = cells_in([*dict.fromkeys(scored), *baselines])
    tests = {pair.test_generator for pair in records}
    own = {(c.protocol, c.pair) for c in found if c.facts.kind == "scored" and c.pair.test_generator in tests}
    return [cell for cell in found if (cell.protocol, cell.pair) in own]
