"""The artifacts of trainings: written whole or not at all, read back strictly, never with pickle."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.scoring.records import Records, from_csv, to_csv

EPOCH_COLUMNS = ("epoch", "loss", "valid_iou", "lr", "seconds")


def write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, fsync it and rename it; raises StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(scratch, 0o644)
            os.replace(scratch, path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error that says a runs folder cannot be written, and what to do."""
    return StoreError(
        f"cannot write {path}: {error.strerror}. Free the space or the permission, or name another folder with --runs, "
        "and run the same command again; what is finished is kept."
    )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, atomically."""
    write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where there is no such file; raises StoreError where it is damaged."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and run again") from None
    if not isinstance(value, dict):
        raise StoreError(f"{path} is damaged (no JSON object); delete it and run again")
    return value


def write_epochs(folder: Path, epochs: Sequence[Mapping[str, float]]) -> None:
    """Write epochs.csv: loss, validation IoU, lr and seconds of each epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, EPOCH_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(epochs)
    write(folder / "epochs.csv", text.getvalue().encode())


def read_validation(folder: Path) -> list[float]:
    """Return the validation IoU of each finished epoch, in order; raises StoreError where epochs.csv is damaged."""
    path = folder / "epochs.csv"
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
        return [float(row["valid_iou"]) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error!r}") from None


def is_trained(folder: Path) -> bool:
    """Tell whether the training in a folder is finished."""
    return (folder / "model.safetensors").exists()


def finished_epochs(folder: Path) -> int:
    """Return how many epochs an unfinished training can go on after."""
    try:
        with safe_open(folder / "resume.safetensors", framework="numpy") as file:
            return len(json.loads((file.metadata() or {})["epochs"]))
    except (OSError, SafetensorError, KeyError, ValueError):
        return 0


def write_records(folder: Path, test: str, records: Records, fingerprint: str) -> None:
    """Write the records of one test set; the csv comes last, so that each csv that exists is complete."""
    table = folder / f"test-{test}.csv"
    try:
        table.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(table, error) from None
    histograms = {"histograms": records.histograms} if records.histograms is not None else {}
    write(folder / f"test-{test}.hist.safetensors", save_arrays(histograms, {"data": fingerprint}))
    write(table, to_csv(records).encode())


def read_records(folder: Path, test: str, fingerprint: str | None = None) -> Records | None:
    """Return the records of one test set, or None where there are none, or none of the data with this fingerprint.

    Raises StoreError where they are damaged.
    """
    table = folder / f"test-{test}.csv"
    if not table.exists():
        return None
    histograms, data = _read_histograms(folder / f"test-{test}.hist.safetensors")
    if fingerprint is not None and data != fingerprint:
        return None
    return from_csv(table.read_text("utf-8"), str(table), histograms=histograms)


def _read_histograms(path: Path) -> tuple[NDArray[np.int32], str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor("histograms"), (file.metadata() or {}).get("data", "")
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and its .csv, and run again") from None


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold a training's lock; yields whether another process held it first. A dead holder's lock frees itself."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
            waited = False
        except Timeout:
            lock.acquire()
            waited = True
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield waited
    finally:
        lock.release()


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process left; the caller holds the lock."""
    for scratch in folder.glob(".*.*-*"):
        scratch.unlink(missing_ok=True)


def tested(folder: Path) -> list[str]:
    """Return the names of the tests that a training's folder has records of, sorted."""
    return sorted(path.stem.removeprefix("test-") for path in folder.glob("test-*.csv"))


def training_folders(runs: Path) -> list[Path]:
    """Return the folders of all trainings below a runs folder, in order; raises StoreError where there is none."""
    if not runs.is_dir():
        raise StoreError(f"{runs}: there is no such runs folder. Run 'deeploc-bench run' first, or name another.")
    return sorted(path.parent for path in runs.rglob("training.json"))
