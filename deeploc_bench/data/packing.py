"""Writes decoded samples into the files of a pack, in order, whatever the threads; one that was killed goes on."""

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from deeploc_bench.contract.errors import SampleError
from deeploc_bench.contract.findings import Finding, data_finding
from deeploc_bench.contract.seals import checksum
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.ahead import ahead
from deeploc_bench.data.decoding import MaskRule
from deeploc_bench.data.entries import Bytes, Entry, decode_entry
from deeploc_bench.data.opening import LARGE, limits_of_pillow

PACKING = ".packing-"
"""How the name of a folder starts in which a pack is being made."""
WRITTEN = 64
"""After how many samples is written down how far a packing is."""
JUST_MADE = 60.0
"""Seconds in which a folder without files is a packing that begins."""
WAIT = 0.1
"""Seconds between two looks at what another process packs."""
Tick = Callable[[], object]


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What became of one sample: its entry in the pack, or what is wrong with it."""

    entry: Entry | None = None
    finding: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Files:
    """The files of a pack that is being made: pixels, mask bits, and a line of JSON for each sample that is done."""

    images: BinaryIO
    masks: BinaryIO
    done: BinaryIO
    unwritten: list[bytes] = field(default_factory=list)

    def add(self, step: Step, image: Bytes, bits: Bytes) -> None:
        """Add a sample behind the others."""
        self.images.write(image.data)
        self.masks.write(bits.data)
        # of names that are no UTF-8, too, which msgspec does not write
        line = json.dumps(msgspec.to_builtins(step)).encode()
        self.unwritten.append(b"%s %s\n" % (checksum(line).encode(), line))
        if len(self.unwritten) == WRITTEN:
            self.flush()

    def flush(self) -> None:
        """Write down how far the packing is; the pixels first, so that no line is of any that are not there."""
        self.images.flush()
        self.masks.flush()
        self.done.write(b"".join(self.unwritten))
        self.done.flush()
        self.unwritten.clear()

    def resume(self) -> list[Step]:
        """Return the steps that are whole, and cut all files behind them; that pixels are lost, their hashes tell."""
        steps, ends = list[Step](), (0, 0, 0)
        for step, behind in _steps(self.done):
            if step.finding and step.finding.check == LARGE:  # the limit may be another now
                break
            steps.append(step)
            ends = behind
        for file, end in zip((self.images, self.masks, self.done), ends, strict=True):
            file.truncate(end)
            file.seek(end)
        return steps


def _steps(done: BinaryIO) -> Iterator[tuple[Step, tuple[int, int, int]]]:
    """Yield each step that is written down, and where it ends in the images, the masks and the steps themselves."""
    images, masks, lines = 0, 0, done.seek(0)
    for line in done:
        seal, _, written = line.removesuffix(b"\n").partition(b" ")
        if checksum(written).encode() != seal:
            return
        try:
            step = msgspec.json.decode(written, type=Step)
        except msgspec.MsgspecError:
            return
        if step.entry:
            height, width = step.entry.shape
            images, masks = images + 3 * height * width, masks + (height * width + 7) // 8
        lines += len(line)
        yield step, (images, masks, lines)


def write_samples(files: Files, samples: Sequence[Sample], rule: MaskRule, *, threads: int, tick: Tick) -> list[Step]:
    """Write the pixels and mask bits of all samples that can be used; return what became of each, in their order.

    Samples that a callable makes are made in this thread, where `threads` is 0.
    """
    steps = files.resume()
    for _ in steps:
        tick()
    for step, image, bits in _decoded(list(islice(samples, len(steps), None)), rule, threads):
        files.add(step, image, bits)
        steps.append(step)
        tick()
    files.flush()
    return steps


def _decoded(samples: Sequence[Sample], rule: MaskRule, threads: int) -> Iterator[tuple[Step, Bytes, Bytes]]:
    decode = partial(_decode, rule)
    if not threads:
        yield from map(decode, samples)
        return
    with limits_of_pillow():  # of the whole process: threads that each set and reset them would meet
        yield from ahead(decode, samples, threads)


def _decode(rule: MaskRule, sample: Sample) -> tuple[Step, Bytes, Bytes]:
    try:
        entry, image, bits = decode_entry(sample, rule)
    except SampleError as error:
        nothing = np.empty(0, np.uint8)
        return Step(finding=data_finding(error.check, str(error))), nothing, nothing
    return Step(entry=entry), image, bits


@contextmanager
def scratch_of(target: Path) -> Iterator[Path]:
    """Hold the folder in which a pack is made, with what a killed packing has left in it; others wait.

    Where the file system has no locks, it is a new folder, which nobody else knows of.
    """
    scratch = target.with_name(PACKING + target.name)
    while True:
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            held = (scratch / "images").open("ab")
        except FileNotFoundError:  # another packing has swept the folder meanwhile
            continue
        except OSError:
            with suppress(OSError):
                scratch.rmdir()
            raise
        with held as images:
            if not _hold_alone(images, scratch / "images"):
                break
            if _is_still(images, scratch / "images"):  # else whoever held it has renamed or removed it
                yield scratch
                return
    with tempfile.TemporaryDirectory(prefix=PACKING, dir=target.parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


def _hold_alone(opened: BinaryIO, file: Path) -> bool:
    """Wait until nobody else holds a file, or it is not there any more; tell whether its file system has locks."""
    while _is_still(opened, file):
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(WAIT)  # and not in flock: who has packed it goes on to read it, and holds it for that
        except OSError:
            return False
        else:
            return True
    return True


def _is_still(opened: BinaryIO, file: Path) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(opened.fileno()))
    except FileNotFoundError:
        return False


def sweep(folder: Path, kept: Path) -> None:
    """Remove what packings that were killed have left in a folder, all but one; a living one holds its images."""
    for left in folder.glob(f"{PACKING}*"):
        if left == kept:
            continue
        with suppress(OSError):
            if not (left / "images").exists():
                if time.time() - left.stat().st_mtime > JUST_MADE:
                    left.rmdir()  # killed before it held anything
                continue
            with (left / "images").open("rb") as images:
                fcntl.flock(images, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
