"""What a plugin's code may not do to the program that calls it: end it, or leave its settings changed.

Nothing is imported here that a plugin might not need: settings of a library are looked at where it is loaded.
"""

import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from deeploc_bench.contract.errors import PluginError, reason_of

STOPS = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a program, which then says what is saved."""


class Stopped(BaseException):
    """A signal that asks the program to stop; its argument is the signal's number."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Something that is set for the whole process; `initial` is what it is before the library is loaded."""

    name: str
    read: Callable[[], Any]
    put_back: Callable[[Any], object]
    initial: Any = None
    is_arithmetic: bool = False
    """Whether results depend on it."""
    is_told: bool = True
    """Whether a plugin that changes it hears of it; many libraries change the others, and nobody misses that."""


Settings = Mapping[str, tuple[Setting, Any]]


@contextmanager
def guarded(where: str, error: Callable[[str], Exception] = PluginError) -> Iterator[list[str]]:
    """Call a plugin's code, then put back what it set; raises an error where it would end the program.

    `where` names what is called. What was put back joins the list that is yielded. For calls that are few: looking at
    all settings takes a fraction of a millisecond. Random streams go on as they are: a build draws from them.
    """
    before, changed = read_settings(), list[str]()
    try:
        with kept_alive(where, error):
            yield changed
    finally:
        changed += put_back(before)


@contextmanager
def unchanged(where: str, error: Callable[[str], Exception] = PluginError) -> Iterator[None]:
    """Raise an error where code of plugins, called many times, leaves other settings that results depend on."""
    before, changed = read_settings(), list[str]()
    try:
        yield
    finally:
        changed += put_back(before)
    moved = [name for name in changed if before[name][0].is_arithmetic]
    if moved:
        raise error(f"{where} changes {' and '.join(moved)}; results depend on it: leave it as it is")


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
    """Let `os._exit` raise SystemExit in this process (not in forked ones), so that it cannot end it unseen."""
    own, real = os.getpid(), os._exit

    def refuse(status: int) -> None:
        if os.getpid() != own:
            real(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = real


def is_stop(error: BaseException) -> bool:
    """Tell whether somebody outside stops the program: by a signal, or by Ctrl-C where Python's own handler is set."""
    is_ctrl_c = isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, Stopped) or is_ctrl_c


def read_settings() -> Settings:
    """Return every setting with its value; that of a library which is not loaded is its initial one."""
    return {setting.name: (setting, setting.read()) for setting in _settings()}


def put_back(before: Settings) -> list[str]:
    """Give all settings the values that they had; returns the names of those changed that are told."""
    changed = []
    for setting in _settings():
        value = before[setting.name][1] if setting.name in before else setting.initial
        if value is not None and setting.read() != value:
            setting.put_back(value)
            changed += [setting.name] if setting.is_told else []
    return changed


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


def _settings() -> Iterator[Setting]:
    yield Setting("the working directory", _folder, os.chdir)
    yield Setting("environment variables", lambda: dict(os.environ), _set_environment, is_told=False)
    yield Setting("warnings filters", lambda: list(warnings.filters), _set_filters, is_told=False)
    if threading.current_thread() is threading.main_thread():  # no other thread may set a handler
        yield Setting("signal handlers", lambda: {stop: signal.getsignal(stop) for stop in STOPS}, _set_handlers)
    if numpy := sys.modules.get("numpy"):
        yield Setting("numpy's errstate", numpy.geterr, lambda value: numpy.seterr(**value), is_told=False)
    if images := sys.modules.get("PIL.Image"):
        yield _attribute("Pillow's ", images, "MAX_IMAGE_PIXELS", 2**30 // 4 // 3)
    if files := sys.modules.get("PIL.ImageFile"):
        yield _attribute("Pillow's ", files, "LOAD_TRUNCATED_IMAGES", False)
    if torch := sys.modules.get("torch"):
        yield from (replace(setting, is_arithmetic=True) for setting in _torch_settings(torch))


def _torch_settings(torch: Any) -> Iterator[Setting]:
    yield Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32)
    yield Setting("torch's default device", lambda: str(torch.get_default_device()), partial(_set_device, torch), "cpu")
    yield Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads)
    yield Setting("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled, True)
    precision = (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    yield Setting("torch's float32 matmul precision", *precision, "highest")
    determinism = (partial(_determinism, torch), partial(_set_determinism, torch))
    yield Setting("torch's deterministic algorithms", *determinism, (False, False))
    yield _attribute("torch's cudnn.", torch.backends.cudnn, "benchmark", False)
    yield _attribute("torch's cudnn.", torch.backends.cudnn, "deterministic", False)
    yield _attribute("torch's cudnn.", torch.backends.cudnn, "allow_tf32", True)


def _attribute(prefix: str, module: Any, name: str, initial: object) -> Setting:
    return Setting(prefix + name, partial(getattr, module, name), partial(setattr, module, name), initial)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return None


def _set_environment(before: dict[str, str]) -> None:
    os.environ.update(before)  # what is new is the plugin's, for a library of its own


def _set_filters(before: list[Any]) -> None:
    with warnings.catch_warnings():
        pass  # leaving it tells the module that its filters have changed
    warnings.filters[:] = before  # type: ignore[index]


def _set_handlers(before: Mapping[signal.Signals, Any]) -> None:
    for stop, handler in before.items():
        if handler is not None:  # None was not set from Python, and cannot be set again from there
            signal.signal(stop, handler)


def _set_device(torch: Any, device: str) -> None:
    torch.set_default_device(None if device == "cpu" else device)  # a default that is set slows every call


def _determinism(torch: Any) -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(torch: Any, before: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
