"""What is written down of a training, as types: training.json, environment.json, and the code and recipe in them."""

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from deeploc_bench.contract.files import digest
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.source import source_hash
from deeploc_bench.contract.specs import (
    MODEL_PATTERN,
    MODEL_RULE,
    NAME_PATTERN,
    NAME_RULE,
    PARAMETER_PATTERN,
    PARAMETER_RULE,
)

FACTS_SCHEMA = 2
ARITHMETIC = 2
"""Raised whenever fit, augmentation, batches or evaluation would give other results; a test holds their digest."""
MOST_NAME = 200  # signs in the name of a folder, of which a file system takes 255

Name = Annotated[str, Meta(pattern=NAME_PATTERN, description=NAME_RULE)]
ModelName = Annotated[str, Meta(pattern=MODEL_PATTERN, description=MODEL_RULE)]
Text = Annotated[str, Meta(min_length=1, max_length=200, description="text of 1 to 200 characters")]
Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16,64}\Z", description="16 to 64 hex digits")]
Parameter = Annotated[str, Meta(pattern=PARAMETER_PATTERN, description=PARAMETER_RULE)]
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max, description="a finite number")]
Positive = Annotated[float, Meta(gt=0, le=sys.float_info.max, description="a finite number above 0")]
NotNegative = Annotated[float, Meta(ge=0)]
Size = Annotated[int, Meta(ge=32)]
Seed = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a file; an unknown key is an error."""


class Code(Strict, frozen=True, kw_only=True):
    """A piece of code: its name, the distribution it came in, and the hash of its source (None: made elsewhere)."""

    name: ModelName
    distribution: Text | None
    version: Text | None
    source: Hash | None


class Term(Code, frozen=True, kw_only=True, omit_defaults=True):
    """One weighted loss; `parameters` are those that are not its defaults. The code of `own` is the model's."""

    name: Name
    weight: Positive
    parameters: Mapping[Parameter, int | Finite] = {}


class Testing(Strict, frozen=True, kw_only=True):
    """What testing a model depends on; `input_size`, in pixels, says what it must be fed, None is native size.

    `weights` is `default`, `none`, a safetensors file, or `file` for one that is known by its hash.
    """

    __test__: ClassVar[bool] = False  # or pytest takes it for a class of tests
    weights: str
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    input_size: Size | None = None


class Recipe(Testing, frozen=True, kw_only=True):
    """Everything that fixes a training but model, loss, data and seed.

    `size` (pixels) with `fit` fixes the training size. Each image is blurred with `blur_probability` by a sigma drawn
    from U[0, `blur_sigma`] pixels, and mirrored with probability 1/2 if `flip`. A GPU trains with the fastest kernels
    instead of the `deterministic` ones where that is false; a CPU computes the same either way.
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
    blur_probability: Annotated[float, Meta(ge=0, le=1)]
    blur_sigma: Annotated[float, Meta(ge=0, le=10)]
    deterministic: bool = True


class Epoch(Strict, frozen=True, kw_only=True):
    """One finished epoch: a row of epochs.csv; `valid_iou` is over the validation splits of the train generators."""

    epoch: int
    loss: float
    valid_iou: float
    lr: float
    seconds: float


class Environment(Strict, frozen=True, kw_only=True):
    """Where a training was done, as a submission tells it; `device` is the name of the hardware."""

    device: Text
    precision: Text
    threads: Annotated[int, Meta(ge=1, le=10**6)]
    processes: Annotated[int, Meta(ge=1, le=10**6)]
    wall_seconds: NotNegative = 0.0
    peak_memory_mib: NotNegative = 0.0
    parameters: Count = 0
    versions: Mapping[str, Text]


class TrainingEnvironment(Environment, frozen=True, kw_only=True):
    """environment.json: what the arithmetic of a training depends on beside its facts, and what it cost.

    `epochs` is the checksum of a finished training's epochs.csv.
    """

    torch_device: str
    python: Text
    platform: Text
    last_start_seconds: NotNegative = 0.0
    epochs: str = ""


class FitState(Strict, frozen=True, kw_only=True):
    """What stands beside the tensors of resume.safetensors: the finished epochs, and the state of a loss scaler."""

    epochs: tuple[Epoch, ...]
    scaler: Mapping[str, int | float] = {}


class TestedSuite(Strict, frozen=True, kw_only=True):
    """What is known of another suite that a training was tested on: as of its own, by the names of the other."""

    __test__: ClassVar[bool] = False  # or pytest takes it for a class of tests
    fingerprint: Hash
    test_data: Mapping[Name, Hash]
    standard_generators: tuple[Name, ...]
    methods: Mapping[Name, Name] = {}
    regenerated: tuple[Name, ...] = ()
    added: Mapping[Name, Text] = {}


class TrainingFacts(Strict, frozen=True, kw_only=True):
    """training.json: all that a training depends on.

    `kind` is `trained`; `fitted` for a baseline that fits itself; `tested` for a model that is never trained; or
    `scored` for predictions made elsewhere. Trained ones have a `recipe`, fitted and tested ones `testing`. `data` is
    the hash of all splits of the standard generators, `fingerprint` of the whole suite, `test_data` of each test split,
    `train` and `valid` of the ordered samples trained (or fitted) and validated on. `added` is the plugin of each
    generator dataset that was added to another's suite, `included` the suite of each that was included from another.
    These identify nothing: `methods`, what each is made by, where that is another name's; `trained_on`, what a detector
    was trained on before it came here, null where that is not declared; `regenerated`, those made anew as a whole;
    `references`, addresses, by `model NAME` and the like; `transfers`, the other suites that it was tested on, by name.
    """

    schema: int = FACTS_SCHEMA
    arithmetic: int = ARITHMETIC
    identity: str = ""
    kind: Literal["trained", "fitted", "tested", "scored"]
    suite: Name
    fingerprint: Hash
    data: Hash
    test_data: Mapping[Name, Hash]
    standard_generators: tuple[Name, ...]
    methods: Mapping[Name, Name] = {}
    regenerated: tuple[Name, ...] = ()
    references: Mapping[Text, Text] = {}
    added: Mapping[Name, Text] = {}
    included: Mapping[Name, Name] = {}
    transfers: Mapping[Name, TestedSuite] = {}
    train_generators: tuple[Name, ...] = ()
    train_samples: tuple[Count, ...] = ()
    available_samples: tuple[Count, ...] = ()
    model: Code
    baseline: bool = False
    pretraining: Text | None = None
    trained_on: tuple[Name, ...] | None = None
    loss: tuple[Term, ...] = ()
    loss_expression: str | None = None
    recipe: Recipe | None = None
    testing: Testing | None = None
    weights: Hash | None = None
    seed: Seed = 0
    train: str = ""
    valid: str = ""

    @property
    def what(self) -> str:
        """Return the model and its loss, as tables name them."""
        return f"{self.model.name} + {self.loss_expression}" if self.loss else self.model.name

    @property
    def trained(self) -> str:
        """Return the name of the folder of all that was trained on: its generators, or of too many their hash."""
        if not self.train_generators:
            return "untrained" if self.kind == "tested" else "undeclared"
        joined = "+".join(self.train_generators)
        return joined if len(joined) <= MOST_NAME else f"{len(self.train_generators)}-generators-{digest([joined])[:8]}"

    @property
    def is_detector(self) -> bool:
        """Tell whether it was trained elsewhere and is only tested."""
        return self.kind == "tested" and not self.baseline

    @property
    def is_learned(self) -> bool:
        """Tell whether it was trained or fitted here: its folder then holds what came out, model.safetensors."""
        return self.kind in ("trained", "fitted")

    @property
    def settings(self) -> Testing | None:
        """Return what its tests depend on; None for predictions made elsewhere."""
        return self.recipe or self.testing

    @property
    def budget(self) -> str:
        """Return `matched` where less than all samples of the train generators were trained on, else `full`."""
        return "full" if self.train_samples == self.available_samples else "matched"

    @property
    def is_seeded(self) -> bool:
        """Tell whether another seed would give other records: of what was trained, here or elsewhere."""
        return self.kind in ("trained", "scored")

    @property
    def experiment(self) -> str:
        """Return the hash (16 hex) of all but the seed and what was trained on: what a row of scores is about.

        Another code, recipe, weights file or data is another experiment, never another seed.
        """
        return digest([json.dumps(_method(self), sort_keys=True), self.suite, self.data])[:16]


def keeping_added(facts: TrainingFacts, before: TrainingFacts) -> TrainingFacts:
    """Return facts that still tell of what was added to the suite before, and is not there today."""
    gone = before.added.keys() - facts.test_data.keys()

    def both(now: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
        return {**now, **{name: then[name] for name in sorted(gone & then.keys())}}

    return msgspec.structs.replace(
        facts,
        test_data=both(facts.test_data, before.test_data),
        methods=both(facts.methods, before.methods),
        regenerated=tuple(sorted({*facts.regenerated, *(gone & {*before.regenerated})})),
        added=both(facts.added, before.added),
    )


def identified(facts: TrainingFacts) -> TrainingFacts:
    """Return the facts with the identity that they give."""
    return msgspec.structs.replace(facts, identity=identity_of(facts))


def identity_of(facts: TrainingFacts) -> str:
    """Return the hash (64 hex) of all that a training's records depend on; versions are recorded, not hashed."""
    own: dict[str, Any] = {"seed": facts.seed, "train": facts.train, "valid": facts.valid}
    if facts.kind == "scored":
        own = {"suite": facts.suite, "train_generators": facts.train_generators}
        own |= {"seed": facts.seed} if facts.seed else {}
    return hashlib.sha256(json.dumps(_method(facts) | own, sort_keys=True).encode()).hexdigest()


def code_of(owned: Owned[Any]) -> Code:
    """Return what identifies the code behind a spec."""
    plugin = owned.plugin
    return Code(
        name=owned.spec.name, distribution=plugin.distribution, version=plugin.version, source=source_hash(owned)
    )


def _method(facts: TrainingFacts) -> dict[str, Any]:
    """Return everything that identifies how, but not on what and from which seed, something was trained or tested."""
    settings: dict[str, Any] = msgspec.to_builtins(facts.recipe or facts.testing) or {}
    settings.pop("name", None)  # two recipes of one content are one recipe
    if settings.get("deterministic"):
        del settings["deterministic"]  # as in the trainings that were made before it could be chosen
    return {
        "schema": facts.schema,
        "arithmetic": facts.arithmetic,
        "kind": facts.kind,
        "model": [facts.model.name, facts.model.source],
        "loss": [_identifying(term) for term in facts.loss],
        "settings": settings,
        "weights": facts.weights,
    }


def _identifying(term: Term) -> list[Any]:
    """Return what identifies one weighted loss: a default written out is the default left out."""
    return [term.weight, term.name, term.source, *([dict(term.parameters)] if term.parameters else [])]
