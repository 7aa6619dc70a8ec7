"""Suites that include others: where the data of each lies, and its packed samples under names of their own.

What an included suite has packed is read where it lies, and not packed again.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.files import digest
from deeploc_bench.contract.owned import Owned, additions
from deeploc_bench.contract.specs import GeneratorDataset, Sample, Samples, Split
from deeploc_bench.data.packing import Tick
from deeploc_bench.data.packs import Pack, cache_folder, pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A generator dataset that is read as it is, and what the ids of its samples begin with in the whole suite."""

    owned: Owned[GeneratorDataset]
    prefix: str = ""


def parts_of(owned: Owned[GeneratorDataset], prefix: str = "") -> Iterator[Part]:
    """Yield what a generator dataset is made of: itself, or those that it was included from."""
    if not owned.included:
        yield Part(owned=owned, prefix=prefix)
    for one in owned.included:
        yield from parts_of(one, f"{prefix}{one.spec.suite}.")


def suites_of(datasets: Sequence[Owned[GeneratorDataset]]) -> list[str]:
    """Return the suites that some datasets come from, sorted: what is packed of each lies in a folder of its own."""
    return sorted({part.owned.spec.suite for owned in datasets for part in parts_of(owned)})


def packed(parts: Sequence[tuple[Part, Samples]], split: Split, tick: Tick, threads: int) -> Pack:
    """Pack the samples of a split of every part, or read what is packed, and return them as one."""
    return joined(
        [
            (part.prefix, _packed(part.owned.spec, split, samples[split], tick, threads))
            for part, samples in parts
            if split in samples
        ]
    )


def _packed(spec: GeneratorDataset, split: Split, samples: Sequence[Sample], tick: Tick, threads: int) -> Pack:
    return pack(
        samples,
        inverted=spec.inverted_masks,
        mask_above=spec.mask_above,
        mask_color=spec.mask_color,
        folder=cache_folder() / spec.suite / f"{spec.name}-{split}",
        tick=tick,
        threads=threads,
    )


def joined(packs: Sequence[tuple[str, Pack]]) -> Pack:
    """Return several packs as one, sorted by id; the ids and sources of each begin with its prefix, if it has one."""
    named = [_renamed(pack, prefix) for prefix, pack in packs]
    if len(named) == 1:
        return named[0]
    places = [(entry, pack, position) for pack in named for position, entry in enumerate(pack.entries)]
    places.sort(key=lambda place: place[0].id)
    flats = [pack.flat(position) for _, pack, position in places]
    images, masks = ([flat[which] for flat in flats] for which in (0, 1))
    return Pack(
        entries=tuple(entry for entry, _, _ in places),
        images=np.concatenate(images) if images else np.empty(0, np.uint8),
        masks=np.concatenate(masks) if masks else np.empty(0, np.uint8),
        findings=tuple(finding for pack in named for finding in pack.findings),
    )


def _renamed(pack: Pack, prefix: str) -> Pack:
    if not prefix:
        return pack
    entries = tuple(
        msgspec.structs.replace(
            entry, id=prefix + entry.id, source=prefix + entry.source, hash=digest([prefix, entry.hash])[:32]
        )
        for entry in pack.entries
    )
    return Pack(entries=entries, images=pack.images, masks=pack.masks, findings=pack.findings)


def roots_of(datasets: Sequence[Owned[GeneratorDataset]], data: str | None) -> dict[str, Path | None]:
    """Return the folder of the images of each suite that some datasets come from, None where they come with a plugin.

    `data` is what `--data` says: a folder, or `SUITE=PATH` of each. Raises UsageError where it says something else.
    """
    suites: dict[str, list[Owned[GeneratorDataset]]] = {}
    for owned in datasets:
        for part in parts_of(owned):
            suites.setdefault(part.owned.spec.suite, []).append(part.owned)
    needing = [name for name, own in suites.items() if any(owned.spec.needs_data for owned in own)]
    said = data or (os.environ.get("DEEPLOC_DATA") if needing else None)  # which may be set for other suites
    named = named_folders(said) if said else {}
    if len(suites) == 1 and not named:
        ((name, own),) = suites.items()
        return {name: data_root(name, own, data)}
    if data and (strange := [name for name in named if name not in suites]):
        raise UsageError(f"--data {data}: {strange[0]!r} is no suite of these: {', '.join(suites)}")
    if data and not named and not needing:
        raise UsageError(f"suites {', '.join(suites)} take no --data: plugins hold their images. Leave the flag out.")
    if named and (lacking := [name for name in needing if name not in named]):
        raise UsageError(f"suite {lacking[0]!r} needs its data, too: add --data {lacking[0]}=PATH")
    folders = named or dict.fromkeys(needing, said)
    return {name: data_root(name, own, folders.get(name)) for name, own in suites.items()}


def data_by_suite(suites: Mapping[str, Sequence[Owned[GeneratorDataset]]], data: str | None) -> dict[str, str | None]:
    """Return what `--data` says of each of several suites that do not make up one: their own folders, or one for all.

    Raises UsageError where it names a suite that is none of these, nor included in one.
    """
    if len(suites) == 1 or not data:
        return dict.fromkeys(suites, data)
    within, named = {name: suites_of(datasets) for name, datasets in suites.items()}, named_folders(data)
    if strange := sorted({*named} - {part for parts in within.values() for part in parts}):
        raise UsageError(f"--data {data}: {strange[0]!r} is no suite of these: {', '.join(suites)}")
    if named:
        own = {name: [f"{part}={named[part]}" for part in parts if part in named] for name, parts in within.items()}
        return {name: os.pathsep.join(folders) or None for name, folders in own.items()}
    needing = [
        name
        for name, datasets in suites.items()
        if any(part.owned.spec.needs_data for owned in datasets for part in parts_of(owned))
    ]
    return {name: data if name in needing or not needing else None for name in suites}


def named_folders(said: str) -> dict[str, str]:
    """Return the folder of each suite that `--data` names; none where it is one folder for all."""
    before, *parts = re.split(rf"(?:^|{re.escape(os.pathsep)})([a-z0-9][a-z0-9._-]*)=", said)
    if not parts or Path(said).exists():
        return {}
    if before:
        raise UsageError(f"--data {said}: of several, each names its suite: --data SUITE=PATH")
    if twice := next((name for name in parts[::2] if parts[::2].count(name) > 1), None):
        raise UsageError(f"--data {said}: suite {twice!r} has two folders; give it one")
    return dict(zip(parts[::2], parts[1::2], strict=True))


def data_root(name: str, datasets: Sequence[Owned[GeneratorDataset]], data: str | None) -> Path | None:
    """Return the folder of a suite's images, None where they come with the plugin; raises UsageError."""
    added = additions(datasets)
    taking = next((o for o in sorted(datasets, key=lambda o: o in added) if o.spec.needs_data), None)
    needs = taking and taking.spec.needs_data
    who = f"generator {taking.spec.name!r} of plugin {taking.plugin.name!r}" if taking in added else f"suite {name!r}"
    if needs:
        data = data or os.environ.get("DEEPLOC_DATA")  # which may be set for other suites than this one
    if needs and not data:
        raise UsageError(f"{who} needs --data PATH (or DEEPLOC_DATA): {needs}.")
    if data and not Path(data).exists():
        raise UsageError(f"--data {data}: there is no such folder.{f' Give {needs}.' if needs else ''}")
    if data and not needs:
        raise UsageError(f"suite {name!r} takes no --data: its images come with the plugin. Leave the flag out.")
    return Path(data) if data else None
