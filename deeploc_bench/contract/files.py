"""The one place that reads TOML and JSON strictly into types, and writes files whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import inspect

from deeploc_bench.contract.errors import DeeplocError, StoreError, unknown

T = TypeVar("T")
MOST_BYTES = 64 * 2**20
"""The largest file that is read whole: 30 trainings of 10,000 test images make a submission of about 40 MiB."""
WORDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "null": "nothing"}
WORDS |= {"array": "a list", "object": "a table of keys"}


def read_toml(path: Path, kind: type[T], what: str, error: type[DeeplocError], **named: str) -> T:
    """Read a TOML file into a type; `named` are values that are not in the file, such as its own name.

    Raises `error` that names the file and what it is, the key, what came and what is allowed.
    """
    where = f"{what} {path}"
    return convert(named | parse_toml(_content(path, what, error), where, error), kind, where, error)


def read_json(
    path: Path,
    kind: type[T],
    what: str,
    error: type[DeeplocError],
    *,
    schema: int | None = None,
    most_bytes: int | None = MOST_BYTES,
) -> T:
    """Read a JSON file, a stranger's too, into a type; raises `error` as `parse_json` and `convert` do."""
    return parse_json(_content(path, what, error, most_bytes), kind, f"{what} {path}", error, schema=schema)


def parse_toml(content: bytes, where: str, error: type[DeeplocError]) -> dict[str, Any]:
    """Return the values of TOML; raises `error`."""
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        raise error(f"{where} is not TOML: {reason}", check="toml") from None
    except RecursionError:
        raise error(f"{where} is nested too deeply", check="nesting") from None


def parse_json(content: bytes, kind: type[T], where: str, error: type[DeeplocError], *, schema: int | None = None) -> T:
    """Parse JSON into a type: no key twice, no NaN, no deep nesting, no lone surrogate, no other `schema`.

    Raises `error`, whose check is `size`, `json`, `duplicate-key`, `nan`, `nesting`, `version` or `schema`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise error(f"{where}: key {twice!r:.80} appears twice", check="duplicate-key")
        return values

    def refuse(constant: str) -> NoReturn:
        raise error(f"{where}: {constant:.80} is not a number; an undefined score is null", check="nan")

    def finite(text: str) -> float:
        return number if math.isfinite(number := float(text)) else refuse(text)  # 1e999 is more than a float can be

    try:
        text = content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
        if b"\\ud" in content.lower():  # a lone surrogate would end every later printing
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise error(f"{where} is nested too deeply", check="nesting") from None
    except ValueError as reason:
        raise error(f"{where} is not JSON: {reason}", check="json") from None
    if schema is not None and isinstance(value, dict) and value.get("schema") != schema:
        raise error(f"{where} has schema {value.get('schema')!r:.50}; this version reads {schema}", check="version")
    return convert(value, kind, where, error)


def convert(values: Any, kind: type[T], where: str, error: type[DeeplocError]) -> T:
    """Convert plain values into a type.

    Raises `error`, check `schema`, that names `where`, the key, what came and what is allowed.
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as reason:
        raise error(f"{where}: {_explained(str(reason), values, kind)}", check="schema") from None
    except RecursionError:
        raise error(f"{where} is nested too deeply", check="nesting") from None


def to_json(value: Any) -> bytes:
    """Return a value as the content of a JSON file: indented, one line per innermost list, no NaN."""
    text = json.dumps(msgspec.to_builtins(value), indent=1, allow_nan=False, ensure_ascii=False)
    # a list has a line break behind its bracket, a bracket in a text never has
    return (re.sub(r"\[\n\s*([^\[\]{}]*?)\n\s*\]", _one_line, text) + "\n").encode()


def write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, fsync it and rename it; raises StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(scratch, 0o644)
            os.replace(scratch, path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error that says a file cannot be written, and what to do."""
    return StoreError(
        f"cannot write {path}: {error.strerror}. Free the space or the permission, or name another folder "
        "(--runs, -o), and run the same command again; what is finished is kept."
    )


def digest(texts: Iterable[str]) -> str:
    """Return 32 hex digits that identify an ordered sequence of texts."""
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def _content(path: Path, what: str, error: type[DeeplocError], most_bytes: int | None = MOST_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(-1 if most_bytes is None else most_bytes + 1)
    except OSError as reason:
        raise error(f"{what} {path}: {reason.strerror}", check="file") from None
    if most_bytes is not None and len(content) > most_bytes:
        raise error(f"{what} {path} is larger than {most_bytes} bytes", check="size")
    return content


def _one_line(match: re.Match[str]) -> str:
    return "[" + re.sub(r"\s*\n\s*", " ", match[1]) + "]"


def _explained(reason: str, values: Any, kind: Any) -> str:
    """Say in words what msgspec says of a value, with the value and with what its key allows."""
    # a path ends the reason: " - at `$.a[0].b`", and of a key of a table " - at `key` in `$.a`"
    at = re.search(r" - at (`key` in )?`\$([^`]*)`\Z", reason)
    said, path = (reason[: at.start()], at[2]) if at else (reason, "")
    is_key = bool(at and at[1])
    keys = re.findall(r"\.([^.\[`]+)|\[(\d+|\.\.\.)\]", path)
    value, info, name = values, inspect.type_info(kind), ""
    for key, place in keys:
        value, info = _child(value, key or place), _child_type(info, key)
        name += f"[{place}]" if place else f".{key}" if name else key
    here = f"key {name!r}: " if name else ""
    missing = re.search(r"missing required field `(.*)`", said)
    if missing:
        return f"{here}the key {missing[1]!r} is missing"
    strange = re.search(r"unknown field `(.*)`", said)
    if strange:
        return here + unknown("key", strange[1], _field_names(info))
    if is_key:
        strange = re.search(r"Invalid enum value (.*)", said)
        came = f" is {strange[1]};" if strange else ":"
        return f"a key of {name!r}{came} expected {_allowed(said, getattr(_plain(info), 'key_type', info))}"
    came = "" if "[...]" in name else f" is {_shown(value)};"  # which of a table's values, msgspec does not say
    return f"{f'key {name!r}' if name else 'it'}{came or ':'} expected {_allowed(said, info)}"


def _child(value: Any, key: str) -> Any:
    try:
        return value[int(key)] if key.isdigit() else value[key]
    except (KeyError, IndexError, TypeError, ValueError):
        return value


def _child_type(info: Any, key: str) -> Any:
    """Return the type of a key, or of an item, of a type; the type itself where it is not known."""
    info = _plain(info)
    if key and isinstance(info, inspect.StructType):
        return next((field.type for field in info.fields if field.encode_name == key), info)
    return getattr(info, "value_type", None) or getattr(info, "item_type", None) or info


def _plain(info: Any) -> Any:
    """Return a type without its metadata, and without None where None is allowed too."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):
        others = [one for one in info.types if not isinstance(one, inspect.NoneType)]
        return _plain(others[0]) if len(others) == 1 else info
    return info


def _field_names(info: Any) -> Sequence[str]:
    return [field.encode_name for field in getattr(_plain(info), "fields", ())]


def _allowed(said: str, info: Any) -> str:
    for part in info.types if isinstance(info, inspect.UnionType) else (info,):
        described = (part.extra_json_schema or {}) if isinstance(part, inspect.Metadata) else {}
        if "description" in described:
            return str(described["description"])
    plain = _plain(info)
    if isinstance(plain, inspect.LiteralType):
        return "one of " + ", ".join(map(str, plain.values))
    expected = said.partition(", got ")[0].removeprefix("Expected ")
    return re.sub(r"`([a-z]+)`", lambda match: WORDS.get(match[1], match[1]), expected).replace(" | ", " or ")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a table of keys"
    return "a list" if isinstance(value, list | tuple) else f"{value!r:.80}"
