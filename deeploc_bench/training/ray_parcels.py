"""What a training is made of, as Ray ships it: samples and weights once a cluster, code as the files that it reaches.

A node needs neither the plugin files nor the data nor the packed data of the machine that a run was started on.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.files import digest, read_bytes, write
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.source import code_files, source_hash
from deeploc_bench.contract.specs import Loss, Model, Split
from deeploc_bench.data.batches import Subset
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Generator, Suite
from deeploc_bench.plan.facts import ARITHMETIC, Recipe, TrainingFacts
from deeploc_bench.plan.job import Job, Prepared
from deeploc_bench.plan.losses import parse_loss
from deeploc_bench.plan.plan import Plan, Training
from deeploc_bench.plan.recipe import NO_FILE
from deeploc_bench.plan.store import Tested

Key: TypeAlias = tuple[str, Split]
"""A generator and one of its splits."""
Cut: TypeAlias = Sequence[tuple[Key, NDArray[np.int64]]]
"""A subset: packs by their keys, each with the positions that are taken of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A plugin that came in no distribution: how it was asked for, where it lies, and the files that it reaches."""

    request: str
    folder: Path
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One training as it is shipped; what is large is a reference into Ray's object store."""

    facts: TrainingFacts
    recipe: Recipe
    requests: Sequence[str]
    code: Sequence[Any]
    packs: Mapping[Key, Any]
    train: Cut
    valid: Cut
    tests: tuple[Tested, ...]
    weights: Any
    description: bytes | None
    """The content of the file that the model was read from."""


class Shipper:
    """Makes parcels; each pack and weights file is put into the object store once, when it is first needed.

    Code is read at once: what is edited while trainings wait is not what they were planned with.
    """

    def __init__(self, ray: Any, prepared: Prepared) -> None:
        self.ray, self.prepared = ray, prepared
        self.packs = {
            (name, split): pack
            for name, generator in prepared.suite.generators.items()
            for split, pack in generator.splits.items()
        }
        self.keys = {id(pack): key for key, pack in self.packs.items()}
        self.stored: dict[Key | str, Any] = {}
        owners = [owned for training in prepared.plan.trainings.values() for owned in _owners(training)]
        lone = {owned.plugin.name: owned for owned in owners if owned.plugin.distribution is None}
        self.code = {name: ray.put(_code_of(owned)) for name, owned in lone.items()}

    def parcel(self, training: Training) -> Parcel:
        """Return a training as it is shipped."""
        tests = self.prepared.plan.tests[training.facts.identity]
        train, valid = self._cut(training.train), self._cut(training.valid)
        keys: set[Key] = {key for key, _ in (*train, *valid)} | {(tested.generator, "test") for tested in tests}
        needed = {owned.plugin.name for owned in _owners(training)}
        installed = needed - {*self.code}
        asked = [name for name in self.prepared.job.plugins if name in installed or name.startswith("no:")]
        weights = training.recipe.weights
        return Parcel(
            facts=training.facts,
            recipe=training.recipe,
            requests=asked,
            code=[self.code[name] for name in sorted(needed & {*self.code})],
            packs={key: self._put(key, _in_memory(self.packs[key])) for key in keys},
            train=train,
            valid=valid,
            tests=tests,
            weights=None if weights in NO_FILE else self._put(weights, np.fromfile(weights, np.uint8)),
            description=read_bytes(path) if (path := training.model.spec.description) else None,
        )

    def _cut(self, subset: Subset) -> Cut:
        return [(self.keys[id(pack)], positions) for pack, positions in subset.packs]

    def _put(self, key: Key | str, value: object) -> Any:
        if key not in self.stored:
            self.stored[key] = self.ray.put(value)
        return self.stored[key]


def _owners(training: Training) -> list[Owned[Any]]:
    """Return the model, what it is made of, and the losses of a training."""
    return [*training.model.parts, *(training.loss.losses if training.loss else [])]


def _in_memory(pack: Pack) -> Pack:
    """Return a pack whose arrays are no maps of files, so that they are read in the object store, without a copy."""
    return replace(pack, images=np.asarray(pack.images), masks=np.asarray(pack.masks))


def _code_of(owned: Owned[Any]) -> Code:
    module, files = owned.plugin.module, code_files(owned)
    file = Path(str(module.__file__)).absolute()
    is_lone = "" in files  # called by nothing, and asked for by its path
    packages = 0 if is_lone else module.__name__.count(".") + (file.name == "__init__.py")
    folder = file.parents[packages]
    return Code(
        request=file.name if is_lone else module.__name__,
        folder=folder,
        files={str(path.relative_to(folder)): path.read_bytes() for path in {file, *files.values()}},
    )


def unpacked(parcel: Parcel, ray: Any, scratch: Path) -> tuple[Prepared, Training]:
    """Return a shipped training with its code loaded on this node, and the plan that holds it alone.

    What must lie in files is written below `scratch`. Raises UsageError where this node has other code installed.
    """
    facts = parcel.facts
    registry = load_plugins([*parcel.requests, *(_placed(code, scratch) for code in ray.get(parcel.code))])
    model = registry.model(_asked_for(parcel, scratch))
    loss = parse_loss(facts.loss_expression, registry) if facts.loss_expression else None
    _refuse_other_code(facts, model, loss.losses if loss else [])
    recipe = parcel.recipe
    if parcel.weights is not None:
        file = scratch / "weights" / Path(recipe.weights).name
        write(file, ray.get(parcel.weights).data)
        recipe = msgspec.structs.replace(recipe, weights=str(file))
        if model.spec.weights is not None:
            model = replace(model, spec=replace(model.spec, weights=file))
    packs = dict(zip(parcel.packs, ray.get(list(parcel.packs.values())), strict=True))
    train, valid = (
        Subset(packs=tuple((packs[key], positions) for key, positions in cut)) for cut in (parcel.train, parcel.valid)
    )
    training = Training(model=model, loss=loss, recipe=recipe, train=train, valid=valid, facts=facts)
    plan = Plan(trainings={facts.identity: training}, tests={facts.identity: parcel.tests}, cells=())
    return Prepared(
        job=Job(suite=facts.suite), registry=registry, suite=_suite_of(facts.suite, packs), plan=plan
    ), training


def _asked_for(parcel: Parcel, scratch: Path) -> str:
    """Return how a shipped training's model is asked for on this node: by its name, or the file that describes it."""
    if parcel.description is None:
        return parcel.facts.model.name
    file = scratch / "descriptions" / f"{parcel.facts.identity}.toml"
    write(file, parcel.description)
    return str(file)


def _suite_of(name: str, packs: Mapping[Key, Pack]) -> Suite:
    splits: dict[str, dict[Split, Pack]] = {}
    for (generator, split), pack in packs.items():
        splits.setdefault(generator, {})[split] = pack
    generators = {key: Generator(name=key, role="standard", splits=found) for key, found in splits.items()}
    return Suite(name=name, generators=generators)


def _placed(code: Code, scratch: Path) -> str:
    """Return how a plugin is asked for on this node: where it lay, if the same files lie there, or as it was shipped.

    A plugin that reads other files beside it finds them where folders are shared.
    """
    folder = code.folder
    if not all(_is(folder / name, content) for name, content in code.files.items()):
        texts = [f"{name}\n{content.hex()}" for name, content in sorted(code.files.items())]
        folder = scratch / "code" / digest(texts)
        for name, content in code.files.items():
            write(folder / name, content)
    if code.request.endswith(".py"):
        return str(folder / code.request)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return code.request


def _is(file: Path, content: bytes) -> bool:
    return file.is_file() and file.read_bytes() == content


def _refuse_other_code(facts: TrainingFacts, model: Owned[Model], losses: Sequence[Owned[Loss]]) -> None:
    """Raise UsageError where this node would compute something else than the machine that the run was started on."""
    cure = "Install the same versions on every node."
    if facts.arithmetic != ARITHMETIC:
        raise UsageError(f"deeploc-bench here computes by arithmetic {ARITHMETIC}, not {facts.arithmetic}. {cure}")
    sources = {term.name: term.source for term in facts.loss}
    pairs: list[tuple[Owned[Any], str | None]] = [(model, facts.model.source)]
    pairs += [(owned, sources[owned.spec.name]) for owned in losses]
    for owned, source in pairs:
        if source_hash(owned) != source:
            raise UsageError(f"{owned.title} is of other code here than where the run was started. {cure}")
