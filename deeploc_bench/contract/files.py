"""The one place that reads TOML and JSON strictly into types, and writes files whole or not at all."""

import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import re
import stat
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

import msgspec
from msgspec import inspect

from deeploc_bench.contract.errors import DeeplocError, StoreError, unknown

T = TypeVar("T")
Error: TypeAlias = type[DeeplocError]
MOST_BYTES = 64 * 2**20
"""The largest file that is read whole: 30 trainings of 10,000 test images make a submission of about 40 MiB."""
MOST_TOML = 2**20
"""The largest TOML file, which a person writes and pure Python reads."""
MOST_DOTS = 1000
"""The most dots in a line of TOML: a key of many parts takes time as their square."""
MOST_NESTED = 10**6
"""The most lists and tables in a JSON file, which take far more memory than the bytes that they are read from."""
WRITING = ".writing-"
"""How the name of a file starts that is being written."""
KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
WORDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "null": "nothing"}
WORDS |= {"array": "a list", "object": "a table of keys"}


def read_toml(path: Path, kind: type[T], what: str, error: Error, **named: str) -> T:
    """Read a TOML file into a type; `named` are values that it lacks, such as its name; raises `error` as `convert`."""
    where = f"{what} {path}"
    return convert(named | parse_toml(_content(path, what, error, MOST_TOML), where, error), kind, where, error)


def read_json(
    path: Path, kind: type[T], what: str, error: Error, *, schema: int | None = None, most_bytes: int = MOST_BYTES
) -> T:
    """Read a JSON file, a stranger's too, into a type; raises `error` as `parse_json` and `convert` do."""
    return parse_json(_content(path, what, error, most_bytes), kind, f"{what} {path}", error, schema=schema)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; raises OSError for any other: a FIFO or a device may never come to an end."""
    try:
        mode = path.stat().st_mode
    except ValueError:
        raise OSError(errno.EINVAL, "it holds a character that no name of a file can") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {KINDS[stat.S_IFMT(mode)]}; expected a regular file")
    return path.open("rb")


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file; raises OSError, and with errno EFBIG where it is larger than allowed."""
    with open_regular(path) as file:
        is_larger = os.fstat(file.fileno()).st_size > most_bytes
        content = b"" if is_larger else file.read(most_bytes + 1)  # it may be growing
    if is_larger or len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes")
    return content


def parse_toml(content: bytes, where: str, error: Error) -> dict[str, Any]:
    """Return the values of TOML; raises `error`."""
    if any(line.count(b".") > MOST_DOTS for line in content.splitlines()):
        raise error(f"{where} has more than {MOST_DOTS} dots in a line", check="nesting")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except ValueError as reason:  # a whole number of too many digits is one, too
        raise error(f"{where} is not TOML: {reason}", check="toml") from None
    except RecursionError:
        raise error(f"{where} is nested too deeply", check="nesting") from None


def parse_json(content: bytes, kind: type[T], where: str, error: Error, *, schema: int | None = None) -> T:
    """Parse JSON into a type: no key twice, no NaN, no deep nesting, no lone surrogate, no other `schema`.

    Raises `error`, whose check is `size`, `json`, `duplicate-key`, `nan`, `nesting`, `version` or `schema`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise error(f"{where}: key {twice!r:.80} appears twice", check="duplicate-key")
        return values

    def refuse(constant: str) -> NoReturn:
        raise error(f"{where}: {constant:.80} is not a number; an undefined score is null", check="nan")

    def finite(text: str) -> float:
        return number if math.isfinite(number := float(text)) else refuse(text)  # 1e999 is more than a float can be

    if content.count(b"[") + content.count(b"{") > MOST_NESTED:
        raise error(f"{where} has more than {MOST_NESTED} lists and tables", check="size")
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


def convert(values: Any, kind: type[T], where: str, error: Error) -> T:
    """Convert plain values into a type; raises `error`, check `schema`, with where, key, what came, what is allowed."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as reason:
        raise error(f"{where}: {_explained(str(reason), values, kind)}", check="schema") from None
    except RecursionError:
        raise error(f"{where} is nested too deeply", check="nesting") from None


def to_json(value: Any) -> bytes:
    """Return a value as the content of a JSON file: indented, one line per innermost list, no NaN."""
    text = json.dumps(msgspec.to_builtins(value), indent=1, allow_nan=False, ensure_ascii=False)
    if not text.isascii():  # a name of a file that is no UTF-8 holds lone surrogates, which no JSON does
        text = re.sub("[\ud800-\udfff]", lambda found: rf"\\u{ord(found[0]):x}", text)
    # a list has a line break behind its bracket, a bracket in a text never has
    lists = re.compile(r"\[\n\s*([^\[\]{}]*?)\n\s*\]")
    return (lists.sub(lambda found: "[" + re.sub(r"\s*\n\s*", " ", found[1]) + "]", text) + "\n").encode()


def write(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file under a temporary name, fsync it and rename it; raises StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f"{WRITING}{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(scratch, 0o644)
                os.replace(scratch, path)
        finally:
            Path(scratch).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def remove(path: Path) -> None:
    """Remove a file that may be there; raises StoreError where it cannot be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def rewrite(path: Path, content: bytes) -> None:
    """Write a file that is made anew each time, and remove what killed processes left of it; raises StoreError."""
    _remove_left(path.parent.glob(f"{WRITING}{glob.escape(path.name)}-*"))
    write(path, content)


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and below it."""
    _remove_left(folder.rglob(f"{WRITING}*"))


def _remove_left(found: Iterable[Path]) -> None:
    """Remove temporary files; a living process holds its own."""
    for scratch in found:
        with suppress(OSError), scratch.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            scratch.unlink()


@contextmanager
def filling(
    folder: Path, names: Iterable[str], what: str, cure: str = "Delete it, or name another folder with -o"
) -> Iterator[None]:
    """Fill the folders of these names in a folder; a killed process's, who filled them with the same `what`, too.

    Raises StoreError where one is there that holds something else, or is finished: nothing is overwritten, or mixed.
    """
    mark = folder / ".unfinished"
    begun = mark.read_text("utf-8", "replace") if mark.is_file() else None
    there = [folder / name for name in names if os.path.lexists(folder / name) and not _is_bare(folder / name)]
    if begun != what and (there or begun is not None):
        raise StoreError(f"{there[0] if there else mark} is there already; nothing is overwritten. {cure}.")
    sweep(folder)
    write(mark, what.encode())
    yield
    remove(mark)


def _is_bare(path: Path) -> bool:
    """Tell whether a path is a folder in which nothing has been finished."""
    return path.is_dir() and not path.is_symlink() and all(one.name.startswith(WRITING) for one in path.iterdir())


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error that says a file cannot be written, and what to do."""
    return StoreError(
        f"cannot write {path}: {error.strerror}. Free the space or the permission, or name another folder "
        "(--runs, -o), and run the same command again; what is finished is kept."
    )


def digest(texts: Iterable[str]) -> str:
    """Return 32 hex digits that identify an ordered sequence of texts."""
    return hashlib.blake2b("\n".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _content(path: Path, what: str, error: Error, most_bytes: int = MOST_BYTES) -> bytes:
    try:
        return read_bytes(path, most_bytes)
    except OSError as reason:
        check = "size" if reason.errno == errno.EFBIG else "file"
        raise error(f"{what} {path}: {reason.strerror}", check=check) from None


def _explained(reason: str, values: Any, kind: Any) -> str:
    """Say in words what msgspec says of a value, with the value and with what its key allows."""
    # a path ends the reason: " - at `$.a[0].b`", and of a key of a table " - at `key` in `$.a`"
    said, is_key, path, *_ = [*re.split(r" - at (`key` in )?`\$([^`]*)`\Z", reason), "", ""]
    value, info, name = values, inspect.type_info(kind), ""
    for key, place in re.findall(r"\.([^.\[`]+)|\[(\d+|\.\.\.)\]", path):
        name += f"[{place}]" if place else f".{key}" if name else key
        info = _child_type(info, key)
        with suppress(LookupError, TypeError, ValueError):
            value = value[key or int(place)]
    here = f"key {name!r}: " if name else ""
    if missing := re.search(r"missing required field `(.*)`", said):
        return f"{here}the key {missing[1]!r} is missing"
    if strange := re.search(r"unknown field `(.*)`", said):
        return here + unknown("key", strange[1], [field.encode_name for field in getattr(_plain(info), "fields", ())])
    if is_key:
        strange = re.search(r"Invalid enum value (.*)", said)
        came = f" is {strange[1]};" if strange else ":"
        return f"a key of {name!r}{came} expected {_allowed(said, getattr(_plain(info), 'key_type', info))}"
    came = ":" if "[...]" in name else f" is {_shown(value)};"  # which of a table's values, msgspec does not say
    return f"{f'key {name!r}' if name else 'it'}{came} expected {_allowed(said, info)}"


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


def _allowed(said: str, info: Any) -> str:
    for part in info.types if isinstance(info, inspect.UnionType) else (info,):
        described = (part.extra_json_schema or {}) if isinstance(part, inspect.Metadata) else {}
        if "description" in described:
            return str(described["description"])
    plain = _plain(info)
    if isinstance(plain, inspect.LiteralType):
        return "one of " + ", ".join(map(str, plain.values))
    expected = said.partition(", got ")[0].removeprefix("Expected ")
    in_words = re.sub(r"`([a-z |]+)`", lambda match: re.sub(r"[a-z]+", _in_words, match[1]), expected)
    return in_words.replace(" | ", " or ")


def _in_words(match: re.Match[str]) -> str:
    return WORDS.get(match[0], match[0])


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a table of keys"
    return "a list" if isinstance(value, list | tuple) else f"{value!r:.80}"
