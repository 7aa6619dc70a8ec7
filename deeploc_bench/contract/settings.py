"""What is set for a whole process, and may be put back: of Python, and of libraries where they are loaded."""

import builtins
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a program, which then says what is saved."""
HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks", "_global_backward_pre_hooks", "_global_backward_hooks")
"""Where torch keeps the hooks that it calls at every module."""


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


def _settings() -> Iterator[Setting]:
    yield Setting("the working directory", _folder, os.chdir)
    yield Setting("environment variables", lambda: dict(os.environ), _set_environment, is_told=False)
    yield Setting("where modules are found", lambda: (list(sys.path), list(sys.meta_path)), _set_paths, is_told=False)
    yield Setting("warnings filters", lambda: list(warnings.filters), _set_filters, is_told=False)
    yield _attribute("", builtins, "print")
    yield _attribute("sys.", sys, "exit")
    yield Setting("blocked signals", partial(signal.pthread_sigmask, signal.SIG_BLOCK, ()), _block_signals)
    yield Setting("alarms", _has_alarm, _set_alarm)
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
    autocast = (partial(_autocast, torch), partial(_set_autocast, torch))
    yield Setting("torch's autocast", *autocast, ((False, torch.bfloat16), (False, torch.float16)))
    hooks = (partial(_hooks, torch), partial(_set_hooks, torch))
    yield Setting("torch's hooks of all modules", *hooks, tuple({} for _ in HOOKS))
    yield _attribute("torch's mkldnn.", torch.backends.mkldnn, "enabled", True)
    yield _attribute("torch's cudnn.", torch.backends.cudnn, "enabled", True)
    yield _attribute("torch's cudnn.", torch.backends.cudnn, "benchmark", False)
    yield _attribute("torch's cudnn.", torch.backends.cudnn, "deterministic", False)
    yield _attribute("torch's cudnn.", torch.backends.cudnn, "allow_tf32", True)


def _attribute(prefix: str, module: Any, name: str, initial: object = None) -> Setting:
    return Setting(prefix + name, partial(getattr, module, name), partial(setattr, module, name), initial)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return None


def _set_environment(before: dict[str, str]) -> None:
    os.environ.update(before)  # what is new is the plugin's, for a library of its own


def _set_paths(before: tuple[list[Any], list[Any]]) -> None:
    lists: tuple[list[Any], list[Any]] = (sys.path, sys.meta_path)
    for kept, now in zip(before, lists, strict=True):
        now += [one for one in kept if one not in now]  # what is new is the plugin's, for modules of its own


def _set_filters(before: list[Any]) -> None:
    with warnings.catch_warnings():
        pass  # leaving it tells the module that its filters have changed
    warnings.filters[:] = before  # type: ignore[index]


def _set_handlers(before: Mapping[signal.Signals, Any]) -> None:
    for stop, handler in before.items():
        if handler is not None:  # None was not set from Python, and cannot be set again from there
            signal.signal(stop, handler)


def _block_signals(before: Collection[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _has_alarm() -> bool:
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _set_alarm(before: bool) -> None:
    if not before:  # one that went off cannot be set again
        signal.setitimer(signal.ITIMER_REAL, 0)


def _set_device(torch: Any, device: str) -> None:
    torch.set_default_device(None if device == "cpu" else device)  # a default that is set slows every call


def _determinism(torch: Any) -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(torch: Any, before: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _autocast(torch: Any) -> tuple[tuple[bool, object], ...]:
    return tuple((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda"))


def _set_autocast(torch: Any, before: tuple[tuple[bool, object], ...]) -> None:
    for kind, (is_on, dtype) in zip(("cpu", "cuda"), before, strict=True):
        torch.set_autocast_enabled(kind, is_on)
        torch.set_autocast_dtype(kind, dtype)


def _hooks(torch: Any) -> tuple[dict[int, object], ...]:
    return tuple(dict(getattr(torch.nn.modules.module, name)) for name in HOOKS)


def _set_hooks(torch: Any, before: tuple[dict[int, object], ...]) -> None:
    for name, hooks in zip(HOOKS, before, strict=True):
        found = getattr(torch.nn.modules.module, name)
        found.clear()
        found.update(hooks)
