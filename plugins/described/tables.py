"""Images and masks in the rows of parquet files, as Hugging Face keeps them; they are read as they are needed."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from deeploc_bench_plugins.described.description import AUTHENTIC, Part, Split
from deeploc_bench_plugins.described.files import is_excluded
from deeploc_bench_plugins.described.named import Named
from deeploc_bench_plugins.described.patterns import matching
from deeploc_bench_plugins.described.walk import fitting

from deeploc_bench import IMAGE_SUFFIXES, Contained, DataError

HELD, LOOKED_AT = 16, 256
"""The rows whose pictures are read at a time, and those that are looked over for what they say."""
MOST_OPEN = 4
"""The columns of files that are held open, so that neighbours in order are read once."""
SHARD = re.compile(r"(.+)-([0-9]{1,6})-of-([0-9]{1,6})(?:-[0-9a-f]{16})?\.parquet")
MOST_ROWS = 10_000_000
PICTURES = ("image", "mask")
SAID = ("label", "generator", "source")
"""What a row may say of its picture."""
WORD = r"(large_)?string|u?int|null|dictionary<values=(large_)?string"
KINDS = {
    **dict.fromkeys(PICTURES, (r"(large_)?binary|struct<.*bytes: (large_)?binary|null", "the bytes of pictures")),
    **dict.fromkeys(("id", "generator", "source"), (WORD, "words or whole numbers")),
    "label": (r"u?int|bool|null|dictionary<values=u?int", "whole numbers, 0 where authentic"),
}
"""The types that a column may have, and how they are told."""


def in_tables(part: Part, data: Path) -> Mapping[Split, list[Named]]:
    """Return the images of each split that the rows of a part's tables hold; raises DataError."""
    pictures = Pictures()
    return {split: list(_found(part, data, template, pictures)) for split, template in part.tables.items()}


class Pictures:
    """Reads pictures out of parquet files, some rows at a time; rows that follow one another are read once."""

    def __init__(self) -> None:
        self._lock, self._streams = Lock(), dict[tuple[Path, str], _Stream]()

    def __reduce__(self) -> tuple[type[Pictures], tuple[()]]:
        return Pictures, ()  # what is open stays in its process

    def read(self, file: Path, column: str, row: int) -> bytes:
        """Return the bytes of a picture; raises OSError where there are none, or they cannot be read."""
        with self._lock:
            stream = self._streams.pop((file, column), None) or _Stream(file, column)
            self._streams[file, column] = stream
            if len(self._streams) > MOST_OPEN:
                del self._streams[next(iter(self._streams))]
            found = stream.value(row)
        if not found:
            raise OSError(f"its column {column!r} holds no picture")
        return found


class _Stream:
    """The values of one column of a file, read forwards within its row groups."""

    def __init__(self, file: Path, column: str) -> None:
        self.table, self.column = _opened(file), column
        about = self.table.metadata
        self.starts = [0, *accumulate(about.row_group(group).num_rows for group in range(about.num_row_groups))]
        self.batches: Iterator[Any] = iter(())
        self.next = self.end = 0
        self.kept = deque[tuple[int, Any]](maxlen=2)

    def value(self, row: int) -> bytes | None:
        while not any(start <= row < start + len(values) for start, values in self.kept):
            if not self.next <= row < self.end:
                group = bisect_right(self.starts, row) - 1
                self.batches = _batches(self.table, [self.column], HELD, [group])
                self.next, self.end = self.starts[group], self.starts[group + 1]
            batch = next(self.batches, None)
            if batch is None:
                raise OSError("the table ends before this row")
            values = _bytes_of(batch.column(0))
            self.kept.append((self.next, values))
            self.next += len(values)
        return next(values[row - start].as_py() for start, values in self.kept if start <= row < start + len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What a row says of its picture; a label of None is not said, and 0 is authentic."""

    place: int
    id: str
    has_mask: bool
    label: int | None
    generator: str | None
    source: str | None

    def is_of(self, part: Part) -> bool:
        """Tell whether it is a part's: authentic, or edited; where only a mask tells, what has none was made whole."""
        if part.name == AUTHENTIC:
            return not self.has_mask if self.label is None else self.label == 0
        is_taken = self.has_mask or part.rows is not None
        is_edited = self.label in part.labels if part.labels else self.label != 0 and is_taken
        return is_edited and self.generator in (None, part.name)


def _found(part: Part, data: Path, template: str, pictures: Pictures) -> Iterator[Named]:
    image, mask = (part.columns.get(name, name) for name in PICTURES)
    files = [file for file in sorted(fitting(data, template)) if not file.name.startswith(".")]
    _check_shards(files)
    for file in files:
        if is_excluded(part, data, file):
            continue
        rows = [row for row in _rows(file, part) if row.is_of(part)]
        wanted = matching(part.rows, [row.id for row in rows]) if part.rows else None
        for row in rows:
            if wanted is None or row.id in wanted:
                if part.name != AUTHENTIC and not row.has_mask:
                    raise DataError(
                        f"{file}, row {row.place}: {row.id} is edited, and its {mask} is empty; fetch the file again, "
                        "or narrow rows or labels"
                    )
                read = partial(_picture, pictures, file, row.place)
                truth = None if part.name == AUTHENTIC else read(mask)
                yield Named(name=_without_suffix(row.id), image=read(image), mask=truth, source=row.source)


def _check_shards(files: list[Path]) -> None:
    """Raise DataError where of files that are called `-00001-of-00070` some are not there, wherever they belong."""
    parts = {(file.parent, found[1], found[3]) for file in files if (found := SHARD.fullmatch(file.name))}
    for folder, name, count in sorted(parts):
        beside = [found for file in folder.iterdir() if (found := SHARD.fullmatch(file.name))]
        here = {found[2] for found in beside if (found[1], found[3]) == (name, count)}
        if len(here) < int(count):
            raise DataError(
                f"{folder / name}-*.parquet: {len(here)} of {int(count)} files are here; fetch the rest. If a part is "
                f"meant, give its files names without '-of-{count}'"
            )


def _picture(pictures: Pictures, file: Path, row: int, column: str) -> Contained:
    return Contained(file=file, place=f"row {row}, {column}", read=partial(pictures.read, file, column, row))


def _without_suffix(id: str) -> str:
    return id[: -len(suffix)] if (suffix := PurePosixPath(id).suffix).lower() in IMAGE_SUFFIXES else id


def _rows(file: Path, part: Part) -> Iterator[_Row]:
    """Yield what the rows of a file say, without their images; raises DataError."""
    table = _opened(file)
    called = {name: part.columns.get(name, name) for name in ("mask", *SAID)}
    called |= {"id": part.columns["id"]} if "id" in part.columns else {}
    _check_columns(file, part, table.schema_arrow, called | {"image": part.columns.get("image", "image")})
    read = {name: column for name, column in called.items() if column in table.schema_arrow.names}
    place = 0
    try:
        for batch in _batches(table, list(read.values()), LOOKED_AT):
            columns = {name: _values(name, batch.column(column)) for name, column in read.items()}
            for step in range(len(batch)):
                values = {name: values[step] for name, values in columns.items()}
                yield _row(file, place + step, values, needs_label=part.needs_label)
            place += len(batch)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error!s:.300}. Is it whole? Fetch it again") from None


def _values(name: str, column: Any) -> list[Any]:
    """Return the values of a column; of masks, whether there is one."""
    values: list[Any] = (_bytes_of(column).is_valid() if name == "mask" else column).to_pylist()
    return values


def _row(file: Path, place: int, values: Mapping[str, Any], *, needs_label: bool) -> _Row:
    id = values.get("id", f"{file.stem}-{place:07}")
    if id in (None, ""):
        raise DataError(f"{file}, row {place}: its id is empty; name another column in columns, or leave id out")
    generator, source = (None if (one := values.get(name)) is None else str(one) for name in ("generator", "source"))
    has_mask, label = bool(values.get("mask")), values.get("label")
    if label is None and needs_label:
        raise DataError(
            f"{file}, row {place}: its label is empty; fetch the file again, or name another column in columns"
        )
    return _Row(place=place, id=str(id), has_mask=has_mask, label=label, generator=generator, source=source)


def _check_columns(file: Path, part: Part, schema: Any, called: Mapping[str, str]) -> None:
    """Raise DataError where a table lacks a column or has two of a name, or one does not hold what it should."""
    needed = {"image", *part.columns, *(() if part.name == AUTHENTIC else ("mask",))} & called.keys()
    needed |= {"label"} if part.needs_label else set()
    for name, column in called.items():
        count = schema.names.count(column)
        if count > 1 or (name in needed and not count):
            told = f"it has {', '.join(schema.names)}. Say in columns what they are called"
            raise DataError(f"{file} has {count or 'no'} column{'s' * (count > 1)} {column!r}; {told}")
        kind, (allowed, expected) = str(schema.field(column).type) if count else "null", KINDS[name]
        if not re.match(allowed, kind):
            cure = "" if name in PICTURES else ". If it says something else, name another in columns"
            raise DataError(f"{file}: column {column!r} holds {kind:.80}; expected {expected}{cure}")


def _opened(file: Path) -> Any:
    """Return an open table, of which nothing but its end has been read; raises DataError."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"pyarrow reads {file}, and is not here; pip install 'deeploc-bench[parquet]'") from None
    if not file.is_file():
        raise DataError(f"{file} is no regular file; expected a parquet file")
    try:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is no parquet file that can be read: {error!s:.300}. Is it whole?") from None
    if table.metadata.num_rows > MOST_ROWS:
        raise DataError(f"{file} has {table.metadata.num_rows} rows; at most {MOST_ROWS} are read")
    return table


def _batches(table: Any, columns: list[str], rows: int, groups: list[int] | None = None) -> Iterator[Any]:
    return table.iter_batches(batch_size=rows, columns=columns, row_groups=groups, use_threads=False)


def _bytes_of(column: Any) -> Any:
    """Return the bytes of a column of pictures, which are a field of it where it tells more of them."""
    is_struct = str(column.type).startswith("struct")
    return column.flatten()[column.type.get_field_index("bytes")] if is_struct else column
