"""What a Ray worker does: one training, in a scratch folder that starts as the driver's; what is new is sent back."""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from filelock import FileLock, Timeout

from deeploc_bench.contract.errors import DeeplocError, TrainingFailed, reason_of
from deeploc_bench.contract.files import write
from deeploc_bench.data.entries import Bytes
from deeploc_bench.data.suites import silent
from deeploc_bench.plan.facts import Epoch
from deeploc_bench.training.engines import train_and_test
from deeploc_bench.training.ray_cluster import Share
from deeploc_bench.training.ray_parcels import Parcel, unpacked
from deeploc_bench.training.workplace import Workplace

Files: TypeAlias = Mapping[str, Bytes]
"""Files of a training's folder by name: arrays, because Ray ships these without a copy."""
SCRATCH = "deeploc-bench-ray-"
"""How the name of a worker's scratch folder starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a worker tells the driver: that it begins, what somebody said, or an epoch with the files that it left.

    `trial` counts how often the training was begun, so that a worker taken for dead is not listened to.
    """

    identity: str
    trial: int
    said: str | None = None
    epoch: Epoch | None = None
    files: Files = field(default_factory=dict)


def files_of(folder: Path) -> dict[str, Bytes]:
    """Return the files of a training's folder, but for hidden ones and what lies in folders in it."""
    return {path.name: _content(path) for path in folder.glob("[!.]*") if path.is_file()}


def do_remotely(parcel: Parcel, share: Share, files: Files, post: Any, trial: int) -> tuple[Files, bool]:
    """Do one training here; return the files that are new since the last epoch, and whether it was trained.

    Raises DeeplocError as the local engine does, TrainingFailed for every other error.
    """
    import ray
    import torch

    torch.set_num_threads(share.threads)  # before the first operation: another number gives other bits
    scratch = _scratch()
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as runs:
        wire = _Wire(post, parcel.facts.identity, trial)
        with redirect_stdout(wire), redirect_stderr(wire), _told(ray):
            prepared, training = unpacked(parcel, ray, scratch)
            place = Workplace(runs=Path(runs), threads=share.threads, progress=silent, say=wire.say)
            folder = place.runs / training.place
            for name, content in files.items():
                write(folder / name, content.data)
            sent = _Sent(folder)
            wire.send()
            device = _device(share.device)

            def on_epoch(epoch: Epoch) -> None:
                wire.send(epoch=epoch, files=sent.news())

            is_new = train_and_test(prepared, training, place, device, on_epoch)
            wire.write("\n")  # the last line may have no end
            return sent.news(), is_new


def _device(name: str) -> Any:
    from deeploc_bench.training.device import resolve_device  # torch, whose threads are set first

    return resolve_device(name)


@contextmanager
def _told(ray: Any) -> Iterator[None]:
    """Make of what went wrong an error that the driver can read, whatever it has installed, and that names the node."""
    try:
        yield
    except DeeplocError as error:
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == DeeplocError.__module__)
        raise kind(f"on node {ray.util.get_node_ip_address()}: {error}", check=error.check) from error
    except (TrainingFailed, MemoryError):
        raise
    except Exception as error:
        raise TrainingFailed(reason_of(error)) from error


class _Wire(io.TextIOBase):
    """Sends words to the driver; what is written on it, line by line, too."""

    def __init__(self, post: Any, identity: str, trial: int) -> None:
        self.post, self.identity, self.trial, self.rest = post, identity, trial, ""

    def send(self, said: str | None = None, epoch: Epoch | None = None, files: Files | None = None) -> None:
        """Send a word, and wait until it has arrived."""
        word = Word(identity=self.identity, trial=self.trial, said=said, epoch=epoch, files=files or {})
        self.post.put(word)

    def say(self, message: str) -> None:
        """Send a line that the driver says."""
        self.send(said=message)

    def writable(self) -> bool:
        """Tell that this is a stream to write on."""
        return True

    def write(self, text: str) -> int:
        """Send all whole lines."""
        *lines, self.rest = (self.rest + text).split("\n")
        if said := [line for line in lines if line.strip()]:
            self.say("\n".join(said))
        return len(text)


class _Sent:
    """The files of a folder that the driver has: those that are there, then those that were sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states = {path: _state(path) for path in self._paths()}

    def news(self) -> Files:
        """Return the files that were written since the last call; a file is always written whole, as another one."""
        states = {path: _state(path) for path in self._paths()}
        new = [path for path, state in states.items() if self.states.get(path) != state]
        self.states = states
        return {str(path.relative_to(self.folder)): _content(path) for path in new}

    def _paths(self) -> list[Path]:
        return [path for path in self.folder.rglob("[!.]*") if path.is_file()]


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _content(path: Path) -> Bytes:
    return np.fromfile(path, np.uint8)


def _scratch() -> Path:
    """Return this process's scratch folder."""
    return Path(_held_scratch().lock_file).parent


@cache
def _held_scratch() -> FileLock:
    """Make a scratch folder, held by a lock for as long as this process lives; those of dead processes are removed."""
    parent, mine = Path(tempfile.gettempdir()), f"{SCRATCH}{os.getuid()}"
    with FileLock(parent / f".{mine}.lock"):  # so that none is taken for dead before it is held
        for left in parent.glob(f"{mine}-*"):
            with suppress(OSError, Timeout), FileLock(left / ".lock", timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        held = FileLock(Path(tempfile.mkdtemp(prefix=f"{mine}-", dir=parent)) / ".lock")
        held.acquire()
    return held
