"""Reads generator datasets again: do they give the same samples, in one order, and in another process too?"""

import hashlib
import importlib.util
import multiprocessing
import os
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from deeploc_bench.contract.errors import SampleError, reason_of
from deeploc_bench.contract.findings import Finding, data_finding
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import GeneratorDataset, Sample
from deeploc_bench.data.built import samples_of
from deeploc_bench.data.decoding import MaskRule, decode
from deeploc_bench.data.included import parts_of, roots_of
from deeploc_bench.data.pairs import spread

REREAD = 4
"""The most samples of each split that are read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A sample that was read: where it stands, what it was pickled to, and the hash of its pixels and mask."""

    where: str
    pickled: bytes
    state: str


def reread_findings(datasets: Sequence[Owned[GeneratorDataset]], data: str | None) -> list[Finding]:
    """Build each generator dataset of a suite twice, and read some samples of each split twice and elsewhere.

    Tells of samples, an order or pixels that change, of samples that cannot be read, and of samples that can be pickled
    and cannot be read in another process. `data` is what `--data` says. Raises UsageError as `load_suite` does.
    """
    roots = roots_of(datasets, data)
    findings, read = list[Finding](), list[_Read]()
    for owned in [part.owned for one in datasets for part in parts_of(one)]:
        root = roots[owned.spec.suite]
        first, again = (samples_of(owned, root, [], []) for _ in range(2))
        spec = owned.spec
        rule = MaskRule(inverted=spec.inverted_masks, above=spec.mask_above, color=spec.mask_color)
        for split, samples in first.items():
            where = f"{owned.spec.name}/{split}"
            findings += _changed(where, samples, again.get(split, ()))
            others = {sample.id: sample for sample in again.get(split, ())}
            for sample in spread(samples, REREAD):
                try:
                    states = [_state(one, rule) for one in (sample, sample, others.get(sample.id, sample))]
                except SampleError as error:
                    findings.append(data_finding(error.check, f"{where}: {error}"))
                    continue
                if len(set(states)) > 1:
                    findings.append(data_finding("changing", f"{where}: the pixels or the mask of {sample.id!r}"))
                elif pickled := _pickled(sample, rule):
                    read.append(_Read(where=f"{where}: {sample.id!r}", pickled=pickled, state=states[0]))
    return [*findings, *_elsewhere(read, {o.plugin.module.__name__: o.plugin.module.__file__ or "" for o in datasets})]


def _changed(where: str, samples: Sequence[Sample], again: Sequence[Sample]) -> Iterator[Finding]:
    """Tell how two builds of one split differ in their ids, sources or order."""
    first, second = ([(sample.id, sample.source) for sample in one] for one in (samples, again))
    if different := sorted(set(first) ^ set(second)):
        (id, source), *_ = different
        told = f"{len(different)} ids or sources, such as {id!r} of source {source!r}"
        yield data_finding("changing", f"{where}: two builds differ in {told}")
    elif first != second:
        yield data_finding("order", f"{where}: sort them; files are listed in any order")


def _state(sample: Sample, rule: MaskRule) -> str:
    """Return the hash of a sample's pixels and mask; raises SampleError."""
    decoded = decode(sample, rule)
    state = hashlib.blake2b(str(decoded.image.shape).encode(), digest_size=16)
    state.update(decoded.image.tobytes())
    state.update(b"" if decoded.mask is None else decoded.mask.tobytes())
    return state.hexdigest()


def _pickled(sample: Sample, rule: MaskRule) -> bytes | None:
    """Return a pickled sample, or None where it cannot be pickled, as nothing says it must."""
    try:
        return pickle.dumps((sample, rule))
    except Exception:
        return None


def _elsewhere(read: Sequence[_Read], modules: Mapping[str, str]) -> Iterator[Finding]:
    """Tell of the samples that another process reads differently, or not at all."""
    if not read:
        return
    spawn = multiprocessing.get_context("spawn")  # as on every system and in every cluster: nothing is inherited
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_prepare, initargs=(dict(modules),)) as pool:
        try:
            for one, (state, reason) in zip(read, pool.map(_state_of, [one.pickled for one in read]), strict=True):
                if state != one.state:
                    yield data_finding("process", f"{one.where}: {reason or 'it has other pixels or another mask'}")
        except BrokenProcessPool:
            yield data_finding("process", f"{read[0].where} and others: the process that reads them ends")


def _prepare(modules: Mapping[str, str]) -> None:
    """Make the plugins that were loaded from lone files importable, and print on stderr alone."""
    os.dup2(2, 1)
    for name, file in modules.items():
        if name in sys.modules or importlib.util.find_spec(name.partition(".")[0]):
            continue
        spec = importlib.util.spec_from_file_location(name, file)
        if spec and spec.loader:
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])


def _state_of(pickled: bytes) -> tuple[str, str]:
    """Return the hash of a pickled sample's pixels and mask, or why it cannot be read."""
    try:
        return _state(*pickle.loads(pickled)), ""
    except Exception as error:
        return "", str(error) if isinstance(error, SampleError) else reason_of(error)
