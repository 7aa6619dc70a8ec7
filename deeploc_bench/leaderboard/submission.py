"""One submission: a strict JSON file with records, provenance and claims; its leaderboard row is recomputed from it."""

import datetime
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from deeploc_bench.contract.errors import RecipeError, SubmissionError
from deeploc_bench.contract.files import convert, parse_json, read_json
from deeploc_bench.contract.specs import ID_PATTERN, ID_RULE
from deeploc_bench.plan.facts import Code, Count, Environment, Hash, Name, NotNegative, Recipe, Size, Strict, Term, Text
from deeploc_bench.scoring.records import Records

SCHEMA = 2
"""2: claims are rounded to six decimals, and hold a standard error in the place of an interval."""
SCORED = "scored"
"""The loss expression of predictions made elsewhere."""
MOST_PIXELS = 10**10
"""More than any image has, and so few that no sum over a file's images leaves an int64."""
MOST_PARTS, MOST_TRAININGS = 64, 2_048
"""The most seeds, generators and the like of a submission, and trainings: cells are counted in their products."""

FEW = Meta(max_length=MOST_PARTS, description=f"at most {MOST_PARTS} of them")
Id = Annotated[str, Meta(pattern=ID_PATTERN, description=ID_RULE)]
Pixels = Annotated[int, Meta(ge=0, le=MOST_PIXELS, description="a whole number of pixels, 0 to 10,000,000,000")]
Pred = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z", description="16 hex digits")]
Seed = Annotated[int, Meta(ge=0, le=2**31 - 1, description="a whole number, 0 to 2147483647")]
Date = Annotated[datetime.date, Meta(description="a day of the calendar, YYYY-MM-DD")]
Link = Annotated[
    str,
    Meta(
        pattern=r"\Ahttps://[A-Za-z0-9._~:/?#@!$&'*+,;=%-]{1,300}\Z",
        description="an address that begins with https://, at most 300 characters, without blanks and brackets",
    ),
]
Expression = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z0-9.*+_(),=-]{1,200}\Z",
        description="a loss or a weighted sum such as 0.5*dice+0.5*focal(gamma=3), at most 200 characters",
    ),
]
Generators = Annotated[tuple[Name, ...], FEW]


class ModelOrigin(Code, frozen=True, kw_only=True, omit_defaults=True):
    """The code of a model, and the hash of its weights file, where it was given one.

    `trained_on` is what a detector that is only tested was trained on elsewhere, the tested generators among it by
    name; null where that is not declared.
    """

    weights: Hash | None = None
    trained_on: Generators | None = None


class LossTerm(Term, frozen=True, kw_only=True):
    """One weighted loss that was at hand."""

    source: Hash


class Counts(Strict, frozen=True, kw_only=True):
    """The records of one test set, one number an image, in the order of the submission's ids."""

    tp: tuple[Pixels, ...]
    fp: tuple[Pixels, ...]
    fn: tuple[Pixels, ...]
    pred: tuple[Pred, ...]


class Speed(Strict, frozen=True, kw_only=True):
    """What a forward pass costs, as `deeploc-bench speed --json` measured it: latency of 1 image, rate of 16."""

    size: Size
    device: Text
    threads: Annotated[int, Meta(ge=1)]
    latency_ms: NotNegative
    images_per_second: NotNegative
    flops_per_image: Count
    parameters: Count
    peak_memory_mib: NotNegative


class TrainingRecords(Strict, frozen=True, kw_only=True):
    """One training, and its records by test generator; `environment` is null where it was done elsewhere."""

    seed: Seed
    train_generators: Generators
    identity: Hash
    environment: Environment | None
    tests: Annotated[Mapping[Name, Counts], FEW]

    @property
    def title(self) -> str:
        """Return the words by which messages name it."""
        return f"seed {self.seed}, trained on {'+'.join(self.train_generators):.120}"


class TransferRecords(Strict, frozen=True, kw_only=True):
    """The records of one training, told by its identity, on another suite, by test generator."""

    identity: Hash
    tests: Annotated[Mapping[Name, Counts], FEW]


class Transfer(Strict, frozen=True, kw_only=True):
    """The tests of all trainings on another suite, and what is known of its images, as of its own in a submission."""

    fingerprint: Hash
    generators: Generators
    ids: Annotated[Mapping[Name, tuple[Id, ...]], FEW]
    sources: Annotated[Mapping[Name, tuple[Id, ...]], FEW]
    pixels: Annotated[Mapping[Name, tuple[Pixels, ...]], FEW]
    trainings: Annotated[tuple[TransferRecords, ...], Meta(max_length=MOST_TRAININGS)]


class Claim(Strict, frozen=True, kw_only=True):
    """The claims of one protocol: the mean over test generators, its standard error over sources, its sd over seeds.

    An interval is not among them: it holds the variance between the seeds of all rows that it is shown with.
    """

    iou: float
    standard_error: float | None
    spread: float | None
    by_generator: Annotated[Mapping[str, float], FEW]


class Claims(Strict, frozen=True, kw_only=True):
    """Every aggregate, rounded to six decimals, made of the records; `cross` is by train, then by test generator.

    `transfers` is by suite tested, by train generators, by test generator.
    """

    loo: Claim
    same: Claim | None = None
    cross: Annotated[Mapping[str, Annotated[Mapping[str, float], FEW]], FEW] | None = None
    worst: float
    gap: float | None = None
    false_alarm_area: float | None = None
    transfers: Annotated[Mapping[str, Annotated[Mapping[str, Annotated[Mapping[str, float], FEW]], FEW]], FEW] = {}


class About(Strict, frozen=True, kw_only=True):
    """What was submitted, by whom, and how it was made.

    `recipe` is null where nothing was trained, `loss` is empty. `baseline` tells a baseline from a detector that is
    only tested; where it is null, what has no loss is a baseline. Of predictions made elsewhere the `loss_expression`
    is `scored`, and neither the source of the model nor an environment is known. `confirmed` is a reviewer's mark: how
    the authors of the model have confirmed the row.
    """

    schema: int
    name: Name
    suite: Name
    date: Date
    contact: Text
    license: Text | None
    reference: Link | None
    code: Link | None
    reproduces: Name | None = None
    confirmed: Text | None = None
    model: ModelOrigin
    baseline: bool | None = None
    loss: Annotated[tuple[LossTerm, ...], FEW]
    loss_expression: Expression
    recipe: Mapping[str, str | int | float | bool | None] | None
    budget: Literal["full", "matched"]
    division: Literal["closed", "open"]
    pretraining: Text | None
    pretraining_generators: Generators = ()
    seeds: Annotated[tuple[Seed, ...], FEW]
    fingerprint: Hash
    speed: Speed | None = None
    generators: Generators

    @property
    def is_baseline(self) -> bool:
        """Tell whether it is a baseline, which is shown beside every row and never ranked."""
        return not self.loss if self.baseline is None else self.baseline

    @property
    def is_scored(self) -> bool:
        """Tell whether its predictions were made elsewhere: nothing of it was trained or tested here."""
        return self.loss_expression == SCORED and not self.loss

    @property
    def is_seeded(self) -> bool:
        """Tell whether another seed would give other records: of what was trained, here or elsewhere."""
        return bool(self.loss) or self.is_scored

    @property
    def is_detector(self) -> bool:
        """Tell whether it was trained elsewhere and is only tested: it is shown, and not ranked."""
        return not self.loss and not self.is_scored and not self.is_baseline

    @property
    def seen(self) -> list[str]:
        """Return the tested generators that a detector was trained on."""
        return sorted({*(self.model.trained_on or ())} & {*self.generators})


class Evidence(About, frozen=True, kw_only=True):
    """All of a submission but its claims: what it is about, and the records of every training.

    `ids`, `sources` and `pixels` are those of the test images of each generator, sorted by id. `transfers` are tests on
    other suites, by name.
    """

    ids: Annotated[Mapping[Name, tuple[Id, ...]], FEW]
    sources: Annotated[Mapping[Name, tuple[Id, ...]], FEW]
    pixels: Annotated[Mapping[Name, tuple[Pixels, ...]], FEW]
    trainings: Annotated[tuple[TrainingRecords, ...], Meta(max_length=MOST_TRAININGS)]
    transfers: Annotated[Mapping[Name, Transfer], FEW] = {}

    def transferred(self, suite: str) -> "Evidence":
        """Return what it is to another suite that it was tested on; tests of no training of its own are left out."""
        other, trained = self.transfers[suite], {training.identity: training for training in self.trainings}
        tested = [(trained[one.identity], one.tests) for one in other.trainings if one.identity in trained]
        return msgspec.structs.replace(
            self,
            suite=suite,
            trainings=tuple(msgspec.structs.replace(training, tests=tests) for training, tests in tested),
            transfers={},
            **{key: getattr(other, key) for key in ("fingerprint", "generators", "ids", "sources", "pixels")},
        )

    def records(self, training: TrainingRecords, test: str) -> Records:
        """Return the records of one of its trainings on one test generator, in the order of the ids.

        Ties are not submitted: both their columns are 0. Ids and sources are those of the submission, not copies.
        """
        counts = training.tests[test]
        tp, fp, fn, pixels = (np.array(c, np.int64) for c in (counts.tp, counts.fp, counts.fn, self.pixels[test]))
        ties = np.zeros_like(tp)
        return Records(
            ids=self.ids[test],
            sources=self.sources[test],
            counts=np.stack([tp, fp, fn, pixels - tp - fp - fn, ties, ties], axis=1),
            preds=counts.pred,
        )


class Submission(Evidence, frozen=True, kw_only=True):
    """Everything that a leaderboard row is made of: the evidence, and what is claimed of it."""

    claims: Claims


class _Schema(msgspec.Struct, frozen=True):
    schema: int


class _Unclaimed(Evidence, frozen=True, kw_only=True):
    claims: Any = None


def read(path: Path) -> Submission:
    """Read a submission file; raises SubmissionError, whose check is `file` or one of `parse`'s."""
    try:
        return read_json(path, Submission, "submission", SubmissionError, schema=SCHEMA)
    except SubmissionError as error:
        if error.check != "version":
            raise
        cure = f"Recompute its claims from its records: deeploc-bench submit --refresh {shlex.quote(str(path))}"
        raise SubmissionError(f"{error}. {cure}", check=error.check) from None


def read_evidence(path: Path) -> Evidence:
    """Read all but the claims of a submission file, of an earlier schema too; raises SubmissionError."""
    schema = read_json(path, _Schema, "submission", SubmissionError).schema
    if not 1 <= schema <= SCHEMA:
        message = f"submission {path} has schema {schema}; this version reads 1 to {SCHEMA}"
        raise SubmissionError(message, check="version")
    found = read_json(path, _Unclaimed, "submission", SubmissionError)
    values = {key: getattr(found, key) for key in Evidence.__struct_fields__}
    return Evidence(**values | {"schema": SCHEMA})


def parse(content: bytes, where: str) -> Submission:
    """Read the content of a submission file: no key twice, no NaN, no infinity, no deep nesting, no unknown key.

    Raises SubmissionError, whose check is `json`, `duplicate-key`, `nan`, `nesting`, `version` or `schema`.
    """
    return parse_json(content, Submission, where, SubmissionError, schema=SCHEMA)


def recipe_of(about: About) -> Recipe | None:
    """Return the recipe; None where nothing was trained. Raises RecipeError where it is not one."""
    if about.recipe is not None:
        return convert(about.recipe, Recipe, "recipe", RecipeError)
    if about.loss:
        raise RecipeError("recipe is null, but with a loss something was trained; give the recipe it was trained by")
    return None
