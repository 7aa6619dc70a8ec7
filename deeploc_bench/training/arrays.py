"""Reads the arrays of strangers: a header is believed where the data behind it is there, and not too large."""

import io
import math
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from deeploc_bench.contract.files import open_regular
from deeploc_bench.data.opening import check_size

LONGEST_HEADER = 4096
"""The most bytes that a header is looked for in: that of a plain array has about a hundred."""
PICKLED = "it is no plain array: pickled objects are never loaded. Save an array of floats by np.save"
ZIPPED = b"PK"


def read_arrays_file(file: Path) -> NDArray[Any]:
    """Return the array of a .npy file, or the only one of a .npz archive.

    Raises ValueError or BadZipFile that say why not, OSError, SampleError where it is too large.
    """
    with open_regular(file) as content:
        if file.suffix.lower() != ".npz" and content.peek(2)[:2] != ZIPPED:
            return _array(content, os.fstat(content.fileno()).st_size)
    with opened_archive(file) as (archive, members):
        every = [member for own in members.values() for member in own]
        if len(every) != 1:
            raise ValueError(f"it holds {len(every)} arrays ({', '.join(members):.80}); expected one")
        return read_member(archive, every[0])


@contextmanager
def opened_archive(file: Path) -> Iterator[tuple[ZipFile, Mapping[str, list[ZipInfo]]]]:
    """Open a .npz archive: yields it, and by the name of an array its members, of which there should be one.

    Raises ValueError where it is no archive, OSError where it cannot be opened.
    """
    with open_regular(file) as content:
        try:
            archive = ZipFile(content)
        except (BadZipFile, NotImplementedError, ValueError) as error:
            raise ValueError(f"it is no .npz archive, or only the beginning of one ({error})") from None
        members: dict[str, list[ZipInfo]] = {}
        for member in archive.infolist():
            members.setdefault(member.filename.removesuffix(".npy"), []).append(member)
        with archive:
            yield archive, members


def read_member(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    """Return the array of a member of an archive; raises as `read_array`, and BadZipFile."""
    if member.flag_bits & 1:
        raise ValueError("it is encrypted")
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError("it is compressed in a way that np.savez_compressed does not write")
    with archive.open(member) as content:
        return _array(content, member.file_size)


def _array(content: IO[bytes], size: int) -> NDArray[Any]:
    """Return the array of a .npy file of this many bytes, in C's order."""
    shape, is_fortran, kind, start = _header(content.read(LONGEST_HEADER))
    count = math.prod(shape)
    if kind.hasobject:
        raise ValueError(PICKLED)
    if kind.kind not in "biufc":
        raise ValueError(f"an array of {kind!s:.80}; expected numbers")
    if min(shape, default=0) < 0:
        raise ValueError(f"its header is damaged: shape {shape!s:.80}")
    check_size(count)
    if size - start != count * kind.itemsize:
        raise ValueError("it ends before its array does, or is damaged")
    content.seek(start)
    flat = np.frombuffer(content.read(count * kind.itemsize), kind)
    return np.ascontiguousarray(flat.reshape(shape, order="F" if is_fortran else "C"))


def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return what the header in the first bytes of a .npy file says, and where its data begin."""
    stream = io.BytesIO(head)
    try:
        version = npy.read_magic(stream)
    except ValueError:
        raise ValueError(PICKLED if head[:1] == pickle.PROTO else "it is no array that np.save wrote") from None
    try:
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        return *read(stream), stream.tell()
    except Exception as error:  # a strange header makes Python's parser raise whatever it likes
        raise ValueError(f"it ends before its array does, or is damaged ({error!s:.80})") from None
