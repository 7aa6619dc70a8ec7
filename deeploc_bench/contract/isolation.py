"""What a plugin's code may not do to the program that calls it: end it, or leave its settings or libraries changed.

Nothing is imported here that a plugin might not need: a library is looked at where it is loaded.
"""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import NoReturn, TextIO

from deeploc_bench.contract.errors import PluginError, reason_of
from deeploc_bench.contract.replaced import originals_kept
from deeploc_bench.contract.settings import Settings, put_back, read_settings

ENDINGS = ("_exit", "abort", "execv", "execve")
"""The functions of `os` that end a program without a word to it."""


class Stopped(BaseException):
    """A signal that asks the program to stop; its argument is the signal's number."""


@contextmanager
def guarded(where: str, error: Callable[[str], Exception] = PluginError) -> Iterator[list[str]]:
    """Call a plugin's code, then put back what it set; raises an error where it would end the program.

    `where` names what is called. What was put back joins the list that is yielded. Functions of libraries that it
    replaced are put back, too, and are an error. For calls that are few: looking at all this takes a millisecond.
    Random streams go on as they are: a build draws from them.
    """
    changed = list[str]()
    with _all_put_back(where, error, changed), kept_alive(where, error):
        yield changed


@contextmanager
def unchanged(where: str, error: Callable[[str], Exception] = PluginError) -> Iterator[None]:
    """Raise an error where code of plugins, called many times, leaves other settings that results depend on."""
    changed = list[str]()
    with _all_put_back(where, error, changed) as before:
        yield
    moved = [name for name in changed if before[name][0].is_arithmetic]
    if moved:
        raise error(f"{where} changes {' and '.join(moved)}; results depend on it: leave it as it is")


@contextmanager
def _all_put_back(where: str, error: Callable[[str], Exception], changed: list[str]) -> Iterator[Settings]:
    """Yield the settings as they are, and put back what was changed, whose names join `changed`, and replaced."""
    before = read_settings()
    try:
        with _same_process(), _streams_open(), originals_kept() as replaced:
            yield before
    finally:
        changed += put_back(before)
    if replaced:
        names = ", ".join(replaced[:5]) + (f" and {len(replaced) - 5} more" if len(replaced) > 5 else "")
        cure = "leave it as it is, and call a function of your own by its own name"
        raise error(f"{where} replaces {names}, which other plugins and the harness compute with; {cure}")


@contextmanager
def kept_alive(where: str, error: Callable[[str], Exception] = PluginError) -> Iterator[None]:
    """Raise an error instead of what a plugin's code raises to end the program; other errors pass."""
    with exits_raised():
        try:
            yield
        except Exception:
            raise
        except BaseException as ending:
            if is_stop(ending):
                raise
            raise error(f"{where} would end the program: {reason_of(ending)}") from ending


@contextmanager
def exits_raised() -> Iterator[None]:
    """Let what would end this process unseen, such as `os._exit`, raise SystemExit."""
    allow = refuse_exits()
    try:
        yield
    finally:
        allow()


def refuse_exits() -> Callable[[], None]:
    """Let what would end this process (not a forked one) unseen raise SystemExit; returns what allows it again."""
    own, real = os.getpid(), {name: getattr(os, name) for name in ENDINGS}

    def refusing(name: str) -> Callable[..., NoReturn]:
        def refuse(*arguments: object) -> NoReturn:
            if os.getpid() != own:
                real[name](*arguments)
            raise SystemExit(f"os.{name}({', '.join(map(repr, arguments))})")

        return refuse

    def put(functions: Mapping[str, object]) -> None:
        for module in (os, sys.modules[os.name]):  # where os has them from
            vars(module).update(functions)

    put({name: refusing(name) for name in ENDINGS})
    return partial(put, real)


def is_stop(error: BaseException) -> bool:
    """Tell whether somebody outside stops the program: by a signal, or by Ctrl-C where Python's own handler is set."""
    is_ctrl_c = isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, Stopped) or is_ctrl_c


@contextmanager
def _same_process() -> Iterator[None]:
    """End a forked process that comes back out of a plugin's code: it would do all that follows a second time."""
    own = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != own:
            os.write(2, b"a process that a plugin's code has forked came back to the harness, and was ended\n")
            os._exit(1)


@contextmanager
def _streams_open() -> Iterator[None]:
    """Leave the descriptors 0 to 2 as they are, and Python's streams open: what is written next would go elsewhere."""
    copies = {number: os.dup(number) for number in range(3) if _file_of(number)}
    out, errors = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for number, copy in copies.items():
            with suppress(OSError):  # the copy is closed, too
                if _file_of(number) != _file_of(copy):
                    os.dup2(copy, number)
                os.close(copy)
        sys.stderr = _open(errors, 2)
        sys.stdout = sys.stderr if out is errors else _open(out, 1)


def _file_of(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:  # it is closed
        return None
    return found.st_dev, found.st_ino


def _open(stream: TextIO, descriptor: int) -> TextIO:
    """Return a stream, or where it is closed another one over the same descriptor."""
    if not getattr(stream, "closed", False) or not _file_of(descriptor):
        return stream
    return open(descriptor, "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False)


@contextmanager
def streams_kept() -> Iterator[None]:
    """Leave the global random streams of Python, numpy and torch, those of GPUs in use too, as they are."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    own = random.getstate()
    of_numpy = numpy.random.get_state() if numpy else None
    of_torch = torch.get_rng_state() if torch else None
    of_gpus = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(own)
        if numpy and of_numpy is not None:
            numpy.random.set_state(of_numpy)
        if torch and of_torch is not None:
            torch.set_rng_state(of_torch)
            torch.cuda.set_rng_state_all(of_gpus)
