"""A function out of a file or a module, and the options that text sets: keywords behind its first arguments."""

import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import msgspec

from deeploc_bench.contract.errors import PluginError, UsageError, unknown
from deeploc_bench.contract.isolation import guarded, streams_kept
from deeploc_bench.contract.loading import load_file, reason_with_place, refuse_path
from deeploc_bench.contract.owned import Plugin

WORDS: Mapping[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function and the module that it is out of; `title` is what messages call it, without a folder."""

    call: Callable[..., Any]
    plugin: Plugin
    title: str

    @property
    def module(self) -> ModuleType:
        """Return the module."""
        return self.plugin.module


def load_function(request: str, flag: str, default: str, arguments: Sequence[str]) -> Function:
    """Return the function that `FILE.py` or `MODULE`, with `:FUNCTION` behind it or not, names.

    It must take as many positional `arguments`. Raises UsageError or PluginError, which name the flag.
    """
    place, _, name = request.rpartition(":")
    place, name = (place, name) if place and name.isidentifier() else (request, default)
    try:
        with guarded("it"), streams_kept():
            module, distribution = _module(place, flag)
    except UsageError:
        raise
    except Exception as error:
        raise PluginError(f"{flag} {request}: {reason_with_place(error)}") from error
    named = [one for one, value in vars(module).items() if inspect.isroutine(value) and not one.startswith("_")]
    call = getattr(module, name, None)
    if not callable(call):
        came = f"{name} is no function; it is {call!r:.80}." if call is not None else unknown("function", name, named)
        raise UsageError(f"{flag} {request}: {came} Say {place}:FUNCTION.")
    version = distribution and importlib.metadata.version(distribution)
    plugin = Plugin(name=place, distribution=distribution, version=version, module=module)
    title = f"{Path(place).name if place.endswith('.py') else place}:{name}"
    _refuse_signature(call, f"{flag} {request}", name, arguments)
    return Function(call=call, plugin=plugin, title=title)


def options_of(function: Function, arguments: Sequence[str], given: Sequence[str], flag: str) -> dict[str, Any]:
    """Return the value of each of a function's options: its parameters behind the first `arguments`.

    `given` are texts `KEY=VALUE`, converted to what a parameter is annotated with, or else to the type of its default;
    the others have their defaults. Raises UsageError.
    """
    named = [one for one in _parameters(function.call) if one.kind not in _REST]
    taken = [one for one in named if one.kind is not one.KEYWORD_ONLY][: len(arguments)]
    parameters = {one.name: one for one in named if one not in taken}
    texts: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{flag} {text!r} is not KEY=VALUE")
        if key not in parameters:
            raise UsageError(f"{flag} {text}: {unknown(f'option of {function.title}', key, parameters)}")
        if key in texts:
            raise UsageError(f"{flag} {key} is given twice, as {texts[key]!r} and {value!r}; give it once")
        texts[key] = value
    missing = [name for name, one in parameters.items() if name not in texts and one.default is one.empty]
    if missing:
        raise UsageError(f"{function.title} needs {' and '.join(f'{flag} {name}=...' for name in missing)}")
    kinds = _kinds(function, parameters)
    return {
        name: _converted(texts[name], kinds[name], f"{flag} {name}") if name in texts else one.default
        for name, one in parameters.items()
    }


_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _module(place: str, flag: str) -> tuple[ModuleType, str | None]:
    """Return a module, and the distribution that it came in, None for a lone file."""
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise UsageError(f"{flag} {place}: there is no such file. Give a Python file or an importable module.")
        return load_file(path.absolute()), None
    refuse_path(place, flag)
    if importlib.util.find_spec(place.partition(".")[0]) is None:
        raise UsageError(
            f"{flag} {place}: there is no such module. Give a Python file, FILE.py, or an importable module."
        )
    owners = importlib.metadata.packages_distributions().get(place.partition(".")[0])
    return importlib.import_module(place), owners[0] if owners else None


def _parameters(call: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):  # some functions of C tell nobody
        return []


def _refuse_signature(call: Callable[..., Any], where: str, name: str, arguments: Sequence[str]) -> None:
    """Raise PluginError where a function does not take the arguments by position."""
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return
    try:
        signature.bind_partial(*arguments)
    except TypeError:
        raise PluginError(f"{where}: it is {name}{signature}; expected {name}({', '.join(arguments)})") from None


def _kinds(function: Function, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Return the type of each option: its annotation, or else the type of its default, or else text."""
    try:
        hints = inspect.get_annotations(function.call, eval_str=True)
    except Exception as error:
        raise PluginError(f"the annotations of {function.title} cannot be read: {error}") from None
    defaults = {
        name: one.default
        for name, one in parameters.items()
        if one.default is not one.empty and one.default is not None
    }
    return {name: hints.get(name, type(defaults.get(name, ""))) for name in parameters}


def _converted(text: str, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False, dec_hook=lambda kind, value: kind(value))
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise UsageError(f"{where}={text}: expected {_allowed(kind) or error}") from None


def _allowed(kind: Any) -> str:
    """Say what a type allows, where that is known; None of a union is left out."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    parts = [one for one in get_args(kind) if one is not type(None)]
    return WORDS.get(kind, "") or " or ".join(filter(None, map(_allowed, parts)))
