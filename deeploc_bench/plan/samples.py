"""What a training was trained and validated on, image by image: samples.json, by which a leak is found without them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.contract.files import digest
from deeploc_bench.contract.seals import read_json, write_json
from deeploc_bench.data.batches import Subset
from deeploc_bench.plan.facts import Name, Strict, TrainingFacts
from deeploc_bench.plan.plan import Training
from deeploc_bench.plan.store import seal_place


class Part(Strict, frozen=True, kw_only=True):
    """The samples of one generator and split, in order: a column each for file, source, and both hashes of `Entry`."""

    generator: Name
    split: Literal["train", "valid"]
    files: tuple[str, ...]
    sources: tuple[str, ...]
    hashes: tuple[str, ...]
    images: tuple[str, ...]

    def places(self) -> Iterator[tuple[str, str, str]]:
        """Yield the hash of each image, its source, and the words for where it stands."""
        for file, source, image in zip(self.files, self.sources, self.images, strict=True):
            yield image, source, f"{self.generator}/{self.split}: {file}"


class Samples(Strict, frozen=True, kw_only=True):
    """samples.json: all that a training was trained and validated on."""

    parts: tuple[Part, ...]

    def fingerprint(self, split: str) -> str:
        """Return the hash of the ordered samples of a split, as the facts of the training have it."""
        return digest(hash for part in self.parts if part.split == split for hash in part.hashes)


def is_untold(folder: Path, training: Training) -> bool:
    """Tell whether samples.json is yet to be written."""
    return _is_at_hand(training) and not (folder / "samples.json").exists()


def write_samples(folder: Path, training: Training) -> None:
    """Write samples.json of what is learned, unless its samples are not at hand."""
    if _is_at_hand(training):
        path, generators = folder / "samples.json", training.facts.train_generators
        parts = (*_parts(generators, "train", training.train), *_parts(generators, "valid", training.valid))
        write_json(path, Samples(parts=parts), seal_place(path))


def _is_at_hand(training: Training) -> bool:
    return training.facts.is_learned and len(training.train) > 0


def read_samples(folder: Path, facts: TrainingFacts) -> Samples:
    """Read samples.json; raises StoreError where it is not there, damaged, or not what the training's facts say."""
    path = folder / "samples.json"
    if not path.exists():
        raise StoreError(
            f"{folder} does not tell what was trained on (it holds no samples.json), so that no leak could be found. "
            "Run its command again, which trains nothing anew and writes it."
        )
    found = read_json(path, Samples, "samples", place=seal_place(path))
    if (found.fingerprint("train"), found.fingerprint("valid")) != (facts.train, facts.valid):
        raise StoreError(f"{path} is not of what {folder} was trained on; delete it and run its command again")
    return found


def _parts(generators: Sequence[str], split: Literal["train", "valid"], subset: Subset) -> Iterator[Part]:
    for generator, (pack, positions) in zip(generators, subset.packs, strict=True):
        entries = [pack.entries[position] for position in positions]
        yield Part(
            generator=generator,
            split=split,
            files=tuple(entry.file for entry in entries),
            sources=tuple(entry.source for entry in entries),
            hashes=tuple(entry.hash for entry in entries),
            images=tuple(entry.image_hash for entry in entries),
        )
