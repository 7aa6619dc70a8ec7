"""The checksum that an artifact carries inside: one flipped bit is a message, and no kill parts the two."""

import hashlib
import mmap
import re
from pathlib import Path
from typing import TypeAlias, TypeVar

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.contract.files import open_regular, parse_json, to_json, write

T = TypeVar("T")
Bytes: TypeAlias = bytes | memoryview | mmap.mmap
BLANK = "blake2b:" + "0" * 32
"""Where the checksum goes in a content that is to be sealed: it is the hash of that content, this in its place."""
SEAL = re.compile(rb"blake2b:[0-9a-f]{32}")
SEAL_WITHIN = 2**16
"""The bytes of a file within which its checksum stands: one without is not searched to its end."""
FIRST_KEY = f'\n "checksum": "{BLANK}",'.encode()


def checksum(*parts: Bytes) -> str:
    """Return the hash (32 hex) of a content, which may come in parts."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.hexdigest()


def write_sealed(path: Path, content: bytes, place: str = "") -> None:
    """Write a file whole, with its checksum in place of the first BLANK in it; raises StoreError.

    `place` says what the file is of: it is sealed too, and whoever reads the file must know it.
    """
    start = content.index(BLANK.encode())
    rest = memoryview(content)[start + len(BLANK) :]  # what is large is not copied
    write(path, content[:start], f"blake2b:{checksum(content, place.encode())}".encode(), rest)


def check_seal(path: Path, place: str = "") -> mmap.mmap:
    """Map a sealed file into memory; raises StoreError with the reason where it is not as it was written, or where."""
    try:
        with open_regular(path) as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise StoreError(str(error.strerror)) from None
    except ValueError:
        raise StoreError("it is empty") from None
    found = SEAL.search(content, 0, SEAL_WITHIN)
    if found is None:
        raise StoreError("it has no checksum")
    whole = memoryview(content)
    parts = (whole[: found.start()], BLANK.encode(), whole[found.end() :], place.encode())
    if checksum(*parts) != found[0].decode().partition(":")[2]:
        raise StoreError("its content is not that of its checksum" + (", or it belongs elsewhere" if place else ""))
    return content


def write_json(path: Path, value: object, place: str = "") -> None:
    """Write a value as a sealed JSON file, whose first key is the checksum; raises StoreError."""
    content = to_json(value)
    write_sealed(path, content[:1] + FIRST_KEY + content[1:], place)


def read_json(path: Path, kind: type[T], what: str, *, schema: int | None = None, place: str = "") -> T:
    """Read a sealed JSON file strictly into a type; raises StoreError as `check_seal` and `parse_json` do."""
    where = f"{what} {path}"
    try:
        content = check_seal(path, place)
    except StoreError as error:
        raise StoreError(f"{where} is damaged ({error})") from None
    return parse_json(content[:1] + content[1 + len(FIRST_KEY) :], kind, where, StoreError, schema=schema)
