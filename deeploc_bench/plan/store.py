"""The artifacts of trainings: where they lie, written whole or not at all, read back strictly, never with pickle.

JSON and safetensors files carry their checksum inside; it is of their name and their training's identity, too. A csv
stays plain: the checksum of test-*.csv stands in its histograms' file, which is written before it; that of epochs.csv
in environment.json, when the training is finished.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
from filelock import BaseFileLock, FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.contract.files import read_bytes, remove, unwritable, write
from deeploc_bench.contract.files import sweep as sweep_scratch
from deeploc_bench.contract.seals import BLANK, check_seal, checksum, read_json, write_json, write_sealed
from deeploc_bench.data.perturb import Perturbation, parse_perturbation
from deeploc_bench.plan.facts import (
    FACTS_SCHEMA,
    Epoch,
    FitState,
    Hash,
    Strict,
    TrainingEnvironment,
    TrainingFacts,
    identity_of,
)
from deeploc_bench.plan.losses import slug
from deeploc_bench.scoring.records import Records, from_csv, to_csv

T = TypeVar("T")
PLACE = "place"
"""The PNG text of an example: its `seal_place`."""
MOST_TABLE = 2**30
"""The largest table of records, in bytes: of more than ten million images."""


class RecordsState(Strict, frozen=True, kw_only=True):
    """What stands beside histograms: the checksum of the records' csv, and the hash of the data that were tested."""

    table: Hash
    data: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One test set: the test split of a generator dataset, as it is or perturbed."""

    __test__: ClassVar[bool] = False  # or pytest takes it for a class of tests
    generator: str
    perturbation: Perturbation | None = None
    suite: str | None = None
    """Another suite than that of the training; None where it is its own."""

    @property
    def name(self) -> str:
        """Return what its records are called after: `generator`, `generator@kind-value`, or `suite+generator`."""
        generator = f"{self.suite}+{self.generator}" if self.suite else self.generator
        return f"{generator}@{self.perturbation.name}" if self.perturbation else generator


def place_of(facts: TrainingFacts) -> str:
    """Return a training's folder, relative to the runs folder."""
    method = slug(f"{facts.model.name}+{facts.loss_expression}") if facts.loss else facts.model.name
    return f"{facts.suite}/{method}/{facts.trained}/seed{facts.seed}-{facts.identity[:8]}"


def write_facts(folder: Path, facts: TrainingFacts) -> None:
    """Write training.json."""
    write_json(folder / "training.json", facts)


def read_facts(folder: Path) -> TrainingFacts:
    """Read training.json; raises StoreError where it is not there, damaged, or not what its identity says."""
    path = folder / "training.json"
    cure = f"Delete {path} and run its command again"
    try:
        facts = read_json(path, TrainingFacts, "training", schema=FACTS_SCHEMA)
    except StoreError as error:
        if error.check == "version":
            cure = "Another version of deeploc-bench wrote this runs folder; move it away, or name another with --runs"
        raise StoreError(f"{error}. {cure}.", check=error.check) from None
    if facts.identity != identity_of(facts):
        raise StoreError(f"training {path} is damaged: its identity is not that of what it says. {cure}.")
    named = re.fullmatch(r"seed\d+-([0-9a-f]{8})", folder.name)
    if named and named[1] != facts.identity[:8]:
        raise StoreError(f"training {path} is of another training, {facts.identity[:8]}. {cure}.")
    return facts


def seal_place(path: Path) -> str:
    """Return what is sealed with an artifact: its name and its training's identity, so that no two change places.

    Empty where nothing tells whose folder it is; raises StoreError where training.json is damaged.
    """
    folder = path.parent
    return f"{path.name} {read_facts(folder).identity}" if (folder / "training.json").exists() else ""


def write_environment(folder: Path, environment: TrainingEnvironment) -> None:
    """Write environment.json."""
    path = folder / "environment.json"
    write_json(path, environment, seal_place(path))


def read_environment(folder: Path) -> TrainingEnvironment:
    """Read environment.json; raises StoreError where it is not there or damaged."""
    path = folder / "environment.json"
    place = seal_place(path)
    try:
        return read_json(path, TrainingEnvironment, "environment", place=place)
    except StoreError as error:
        raise StoreError(f"{error}. What the arithmetic of {folder} was is lost; delete it and run again.") from None


def write_epochs(folder: Path, epochs: Sequence[Epoch]) -> str:
    """Write epochs.csv: loss, validation IoU, lr and seconds of each epoch; returns its checksum."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Epoch.__struct_fields__)
    writer.writerows(msgspec.structs.astuple(epoch) for epoch in epochs)
    content = text.getvalue().encode()
    write(folder / "epochs.csv", content)
    return checksum(content)


def read_validation(folder: Path) -> list[float]:
    """Return the validation IoU of each epoch of a finished training; raises StoreError where epochs.csv is damaged."""
    path = folder / "epochs.csv"
    try:
        content = read_bytes(path)
        if checksum(content) != read_environment(folder).epochs:
            raise ValueError("its content is not that of its checksum, in environment.json")
        return [float(row["valid_iou"]) for row in csv.DictReader(io.StringIO(content.decode()))]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is damaged or missing ({error}); delete {folder} and run again") from None


def write_tensors(path: Path, save: Callable[[Any, dict[str, str]], bytes], tensors: object, about: object) -> None:
    """Write a sealed safetensors file by a `save` of that library, with `about`, as JSON, beside its tensors."""
    # one key, because the library writes several in any order
    write_sealed(path, save(tensors, {"about": f"{BLANK} {msgspec.json.encode(about).decode()}"}), seal_place(path))


def check_tensors(path: Path) -> None:
    """Raise StoreError where a sealed safetensors file is not as it was written, or another training's."""
    check_seal(path, seal_place(path))


def read_about(path: Path, kind: type[T], cure: str) -> T:
    """Return what stands beside the tensors of a sealed safetensors file; raises StoreError where that is damaged."""
    place = seal_place(path)
    try:
        check_seal(path, place)
        with safe_open(path, framework="numpy") as file:
            return msgspec.json.decode(file.metadata()["about"][len(BLANK) :], type=kind)
    except (StoreError, OSError, SafetensorError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise StoreError(f"{path} is damaged ({error}); {cure}") from None


def is_trained(folder: Path) -> bool:
    """Tell whether the training in a folder is finished."""
    return (folder / "model.safetensors").exists()


def is_ready(folder: Path, facts: TrainingFacts) -> bool:
    """Tell whether the model of these facts can be tested: it is trained or fitted, or never is."""
    return is_trained(folder) or not facts.is_learned


def read_state(folder: Path) -> FitState | None:
    """Return where an unfinished training stands, None where no epoch is finished; raises StoreError."""
    path = folder / "resume.safetensors"
    return read_about(path, FitState, "delete it and run again, from the first epoch on") if path.exists() else None


def finished_epochs(folder: Path) -> int:
    """Return how many epochs an unfinished training can go on after; raises StoreError where its state is damaged."""
    state = read_state(folder)
    return len(state.epochs) if state else 0


def write_records(folder: Path, tested: Tested, records: Records, data: str) -> None:
    """Write the records of one test set, whose hash is `data`; the csv comes last, so that each one is complete."""
    table, histograms = _record_files(folder, tested)
    remove(table)
    content = to_csv(records).encode()
    arrays = {"histograms": records.histograms} if records.histograms is not None else {}
    write_tensors(histograms, save_arrays, arrays, RecordsState(table=checksum(content), data=data))
    write(table, content)


def read_records(folder: Path, tested: Tested, data: str) -> Records | None:
    """Return the records of one test set, or None where there are none, or none of the data with this hash.

    Raises StoreError where they are damaged.
    """
    table, histograms = _record_files(folder, tested)
    if not table.exists():
        return None
    cure = "delete it and its .csv, and run again"
    state = read_about(histograms, RecordsState, cure)
    if state.data != data:
        return None
    try:
        content = read_bytes(table, MOST_TABLE)
        if checksum(content) != state.table:
            raise StoreError(f"its content is not that of its checksum, in {histograms.name}")
        with safe_open(histograms, framework="numpy") as file:
            arrays = file.get_tensor("histograms")
    except (OSError, SafetensorError, StoreError) as error:
        raise StoreError(f"{table} is damaged ({error}); delete it and run again") from None
    return from_csv(content.decode(), str(table), histograms=arrays)


def _record_files(folder: Path, tested: Tested) -> tuple[Path, Path]:
    return folder / f"test-{tested.name}.csv", folder / f"test-{tested.name}.hist.safetensors"


def tested_in(folder: Path) -> list[Tested]:
    """Return the test sets that a training's folder has records of, sorted by name."""
    names = sorted(path.stem.removeprefix("test-").partition("@") for path in folder.glob("test-*.csv"))
    tests = []
    for place, at, name in names:
        suite, _, generator = place.rpartition("+")
        perturbation = parse_perturbation(name, "-") if at else None
        tests.append(Tested(generator=generator, perturbation=perturbation, suite=suite or None))
    return tests


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold a training's lock; yields whether another process held it first. A dead holder's lock frees itself."""
    lock = claimed(folder)
    waited = lock is None
    if lock is None:
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire()
        except OSError as error:
            raise unwritable(folder, error) from None
    try:
        yield waited
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Tell whether a process holds a training's lock now."""
    if not (folder / ".lock").exists():
        return False
    lock = claimed(folder)
    if lock:
        lock.release()
    return lock is None


def claimed(folder: Path) -> BaseFileLock | None:
    """Return a training's lock, held, or None where another process holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        raise unwritable(folder, error) from None
    return lock


def sweep(folder: Path) -> None:
    """Remove the temporary files and the finished training's state that a killed process left; the lock is held."""
    sweep_scratch(folder)
    if is_trained(folder):
        remove(folder / "resume.safetensors")


def training_folders(runs: Path) -> list[Path]:
    """Return the folders of all trainings below a runs folder, in order; raises StoreError where there are none."""
    if not runs.is_dir():
        raise StoreError(f"{runs}: there is no such runs folder. Run 'deeploc-bench run' first, or name another.")
    folders = sorted(path.parent for path in runs.rglob("training.json"))
    if lost := sorted({path.parent for path in runs.rglob("test-*.csv")} - {*folders}):
        raise StoreError(
            f"{lost[0]} holds records but no training.json, which says of what. Run its command again, which restores "
            "it, or move that folder away."
        )
    if not folders:
        raise StoreError(f"{runs} holds no training. Run 'deeploc-bench run' first, or name another folder.")
    return folders
