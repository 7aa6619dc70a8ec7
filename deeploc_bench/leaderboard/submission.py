"""One submission: a strict JSON file with records, provenance and claims; its leaderboard row is recomputed from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from deeploc_bench.contract.errors import SubmissionError
from deeploc_bench.contract.specs import ID_PATTERN, NAME_PATTERN

SCHEMA = 1
MOST_BYTES = 64 * 2**20
"""A submission is larger only by mistake: 30 trainings of 10,000 test images have about 40 MiB."""

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Text = Annotated[str, Meta(min_length=1, max_length=200)]
Link = Annotated[str, Meta(pattern=r"^https://[A-Za-z0-9._~:/?#@!$&'*+,;=%-]{1,300}$")]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{16,64}$")]
Pixels = Annotated[int, Meta(ge=0, le=10**10)]
Positive = Annotated[float, Meta(ge=0)]
Date = Annotated[str, Meta(pattern=r"^20[0-9]{2}-[01][0-9]-[0-3][0-9]$")]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a submission; an unknown field is an error."""


class Origin(Strict, frozen=True, kw_only=True):
    """What identifies a piece of code: plugin distribution and version, and the hash of its source files."""

    name: Name
    distribution: Text | None
    version: Text | None
    source: Hash


class Term(Origin, frozen=True, kw_only=True):
    """One weighted loss."""

    weight: Annotated[float, Meta(gt=0)]


class Counts(Strict, frozen=True, kw_only=True):
    """The records of one test set, one number an image, in the order of the submission's ids."""

    tp: list[Pixels]
    fp: list[Pixels]
    fn: list[Pixels]
    pred: list[Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]]


class Environment(Strict, frozen=True, kw_only=True):
    """Where a training was done."""

    device: Text
    precision: Text
    threads: Annotated[int, Meta(ge=1)]
    processes: Annotated[int, Meta(ge=1)]
    wall_seconds: Positive
    peak_memory_mib: Positive
    parameters: Annotated[int, Meta(ge=0)]
    versions: Mapping[str, Text]


class Speed(Strict, frozen=True, kw_only=True):
    """What a forward pass costs, as `deeploc-bench speed --json` measured it: latency of 1 image, rate of 16."""

    size: Annotated[int, Meta(ge=32)]
    device: Text
    threads: Annotated[int, Meta(ge=1)]
    latency_ms: Positive
    images_per_second: Positive
    flops_per_image: Annotated[int, Meta(ge=0)]
    parameters: Annotated[int, Meta(ge=0)]
    peak_memory_mib: Positive


class TrainingRecords(Strict, frozen=True, kw_only=True):
    """One training, and its records by test generator."""

    seed: Annotated[int, Meta(ge=0)]
    train_generators: list[Name]
    identity: Hash
    environment: Environment
    tests: Mapping[Name, Counts]


class Row(Strict, frozen=True, kw_only=True):
    """The claims of one protocol: the mean over test generators, its interval, and the spread over seeds."""

    iou: float
    low: float | None
    high: float | None
    spread: float | None
    by_generator: Mapping[str, float]


class Claims(Strict, frozen=True, kw_only=True):
    """Every aggregate of a submission, at full precision; each is recomputed from the records."""

    loo: Row
    same: Row | None = None
    cross: Mapping[str, Mapping[str, float]] | None = None
    worst: float
    gap: float | None = None
    false_alarm_area: float | None = None


class Submission(Strict, frozen=True, kw_only=True):
    """Everything that a leaderboard row is made of."""

    schema: int
    name: Name
    suite: Name
    date: Date
    contact: Text
    license: Text | None
    reference: Link | None
    code: Link | None
    reproduces: Name | None = None
    model: Origin
    loss: list[Term]
    loss_expression: Annotated[str, Meta(pattern=r"^[a-z0-9.*+_-]{1,200}$")]
    recipe: Mapping[str, str | int | float | bool | None]
    budget: Annotated[str, Meta(pattern="^(full|matched)$")]
    division: Annotated[str, Meta(pattern="^(closed|open)$")]
    pretraining: Text | None
    pretraining_generators: list[Name] = []
    seeds: list[Annotated[int, Meta(ge=0)]]
    fingerprint: Hash
    speed: Speed | None = None
    generators: list[Name]
    ids: Mapping[Name, list[Id]]
    sources: Mapping[Name, list[Id]]
    pixels: Mapping[Name, list[Pixels]]
    trainings: list[TrainingRecords]
    claims: Claims


def parse(content: bytes, where: str) -> Submission:
    """Read a submission from a stranger: size limit, no duplicate key, no NaN, no deep nesting, no unknown field.

    Raises SubmissionError, whose check is `size`, `json`, `duplicate-key`, `nan`, `nesting`, `version` or `schema`.
    """
    if len(content) > MOST_BYTES:
        raise SubmissionError("size", f"{where} has {len(content)} bytes; a submission has at most {MOST_BYTES}")
    try:
        value = json.loads(content, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise SubmissionError("nesting", f"{where} is nested too deeply") from None
    except ValueError as error:
        raise SubmissionError("json", f"{where} is not JSON: {error}") from None
    if isinstance(value, dict) and value.get("schema") != SCHEMA:
        raise SubmissionError(
            "version", f"{where} has schema {value.get('schema')!r:.50}; this verifier reads {SCHEMA}"
        )
    try:
        return msgspec.convert(value, Submission)
    except msgspec.ValidationError as error:
        raise SubmissionError("schema", f"{where}: {error}") from None
    except RecursionError:
        raise SubmissionError("nesting", f"{where} is nested too deeply") from None


def read(path: Path) -> Submission:
    """Read a submission file; raises SubmissionError as `parse` does."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SubmissionError("file", f"{path}: {error.strerror}") from None
    return parse(content, str(path))


def to_json(submission: Submission) -> bytes:
    """Return a submission as its file's content, an array a line."""
    text = json.dumps(msgspec.to_builtins(submission), indent=1, allow_nan=False, ensure_ascii=False)
    return (_one_line_arrays(text) + "\n").encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise SubmissionError("duplicate-key", f"key {key!r:.80} stands there twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise SubmissionError("nan", f"{name} is no number; undefined scores are null")


def _one_line_arrays(text: str) -> str:
    return re.sub(r"\[\s*([^\[\]{}]*?)\s*\]", lambda match: "[" + re.sub(r"\s*\n\s*", " ", match[1]) + "]", text)
