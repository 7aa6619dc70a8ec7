"""A folder of generators that were made of the same photographs: its files, what made each, and its description.

originals.json                      what all generators share: ids, sources, splits, masks, and how they were drawn
suite.toml                          the description of the suite, written again with each generator
real/test/<id>.png                  the authentic test images
fake/<generator>/images/<split>/<id>.png    and masks/<split>/<id>.png, 255 where manipulated
fake/<generator>/maker.json         what made it, and the hash and the change of each image
fake/<generator>/sheet.png          a few images: original, mask, edit
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from deeploc_bench.contract.errors import StoreError, UsageError
from deeploc_bench.contract.files import digest, unwritable, write
from deeploc_bench.contract.seals import BLANK, check_seal, read_json, write_json, write_sealed
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS
from deeploc_bench.data.originals import ORIGINALS_SCHEMA, Originals
from deeploc_bench.data.suites import Fingerprint, Id, Name

MAKER_SCHEMA = 1
LEAST_CHANGE = 2.0
"""Levels by which an edit changes its pixels, on average; one that changes them by less can hardly be seen."""
BEGUN = ".unfinished"
HEADER = f"# Written by `deeploc-bench data make`, and again with each generator. {BLANK}\n"


class MakerFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file, or a folder, that a maker reads, such as its weights: its name, and the hash (64 hex) of its content."""

    name: str
    sha256: str


class Maker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a generator's images: a function, the hash (16 hex) of its code, its options and files by name.

    `whole` tells whether the whole output is kept, or the masked pixels alone; `batch_size` is how many images of one
    size it is given at once.
    """

    function: str
    code: str
    options: Mapping[str, str]
    files: Mapping[str, MakerFile]
    whole: bool
    batch_size: int


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One image that was made: the hash of its size and pixels, and its mean change inside the mask, in levels."""

    id: Id
    image: Fingerprint
    change: float


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """maker.json: what made a generator of which originals, under which declared terms and versions."""

    schema: int = MAKER_SCHEMA
    generator: Name
    identity: Fingerprint
    maker: Maker
    license: str | None
    reference: str | None
    versions: Mapping[str, str]
    edits: tuple[Edit, ...]


def identity_of(maker: Maker, originals: Originals) -> str:
    """Return the hash of all that a generator's images are a function of; versions of packages are not among it."""
    return digest(msgspec.json.encode(part, order="sorted").decode() for part in (maker, originals))


def generator_folder(root: Path, name: str) -> Path:
    """Return where a generator lies."""
    return root / "fake" / name


@contextmanager
def locked(folder: Path, *, waits: bool) -> Iterator[None]:
    """Hold a folder's lock, whose dead holder frees it; raises StoreError where another process holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=-1 if waits else 0):
            yield
    except Timeout:
        raise StoreError(f"another process is making {folder}; wait for it, or stop it") from None
    except OSError as error:
        raise unwritable(folder, error) from None


def share_originals(root: Path, originals: Originals) -> None:
    """Write originals.json where there is none; raises UsageError where the folder holds others, or something else."""
    file = root / "originals.json"
    if file.exists():
        kept = read_json(file, Originals, "originals", schema=ORIGINALS_SCHEMA)
        if kept == originals:
            return
        if any((root / "fake").glob("*/images")):
            _refuse_others(file, kept, originals)
        shutil.rmtree(root / "real", ignore_errors=True)  # copies of what nothing was made of
        write_json(file, originals)
        return
    for taken in (root / "fake", root / "real", root / "suite.toml"):
        if taken.exists():
            raise UsageError(f"{taken} is there, and no {file.name} beside it. Nothing is mixed: name another folder.")
    write_json(file, originals)


def _refuse_others(file: Path, kept: Originals, asked: Originals) -> None:
    """Raise UsageError where generators of one folder would not be made of the same."""
    advice = f"All generators of {file.parent} share them; name another folder with -o, or ask for the same."
    for field in ("suite", "seed", "source", "splits", "drawing"):
        was, now = getattr(kept, field), getattr(asked, field)
        if was != now:
            flags = {"drawing": "--mask-kind, --area or --masks"}.get(field, f"--{field}")
            told = " and ".join(f"{_worded(one)}" for one in (was, now))
            raise UsageError(f"{file} and {flags} differ: {told}. {advice}")
    was, now = ({one.id: one for one in both.samples} for both in (kept, asked))
    gone, new = sorted(was.keys() - now.keys()), sorted(now.keys() - was.keys())
    both = sorted(was.keys() & now.keys())
    changed = [id for id in both if (was[id].image, was[id].mask) != (now[id].image, now[id].mask)]
    dealt = [id for id in both if was[id].split != now[id].split and not gone and not new]
    words = [("are lacking", gone), ("are new", new), ("have another image or mask", changed)]
    words += [("stand in another split", dealt)]
    told = "; ".join(f"{len(ids)} {what}, such as {ids[0]}" for what, ids in words if ids)
    raise UsageError(f"the images are not those of {file}: {told}. {advice}")


def _worded(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return "none" if text == "null" else text


def is_begun(folder: Path, identity: str) -> bool:
    """Tell whether a generator's folder holds what this identity made, finished or not.

    Raises StoreError where it holds something else: nothing is overwritten, or mixed.
    """
    mark = folder / BEGUN
    provenance = read_provenance(folder)
    begun = provenance.identity if provenance else mark.read_text("utf-8", "replace") if mark.is_file() else None
    if begun == identity:
        return True
    is_empty = not any((folder / name).exists() for name in ("images", "masks"))
    if begun is not None and not (is_empty and provenance is None):
        raise StoreError(
            f"{folder} was made by another function, other options or other files; nothing is overwritten. Name this "
            f"generator otherwise, with --name, or delete {folder}."
        )
    if not is_empty:
        raise StoreError(f"{folder} is there already, made by something else; nothing is overwritten. Move it away.")
    return False


def begin(folder: Path, identity: str) -> None:
    """Say in a generator's folder what is being made there."""
    write(folder / BEGUN, identity.encode())


def finish(folder: Path, provenance: Provenance) -> None:
    """Write what made a generator, which is then finished."""
    write_json(folder / "maker.json", provenance)
    (folder / BEGUN).unlink(missing_ok=True)


def read_provenance(folder: Path) -> Provenance | None:
    """Return what made a finished generator; None where it is not finished."""
    file = folder / "maker.json"
    return read_json(file, Provenance, "maker", schema=MAKER_SCHEMA) if file.exists() else None


def made_generators(root: Path) -> list[Provenance]:
    """Return what made each finished generator of a folder, by name."""
    found = [read_provenance(folder) for folder in sorted((root / "fake").glob("*"))]
    return [provenance for provenance in found if provenance]


def faint_ids(generators: Sequence[Provenance]) -> list[str]:
    """Return the ids of which some generator's edit can hardly be seen."""
    return sorted({edit.id for one in generators for edit in one.edits if edit.change < LEAST_CHANGE})


def refuse_edited(root: Path) -> None:
    """Raise StoreError where the description is not as it was written: it would be overwritten."""
    file = root / "suite.toml"
    if file.exists():
        try:
            check_seal(file).close()
        except StoreError as error:
            raise StoreError(
                f"{file} was edited since it was written ({error}), and would be written again: rename your copy"
            ) from None


def describe(root: Path, originals: Originals) -> None:
    """Write the description of a folder's finished generators, without the images of which an edit is faint."""
    generators = made_generators(root)
    is_trained = {one.split for one in originals.samples} == {*SPLITS}
    left_out = [f"{id}.png" for id in faint_ids(generators)]
    parts: list[tuple[str, dict[str, object]]] = [("", {"suite": originals.suite, "source": originals.source})]
    for one in generators:
        keys: dict[str, object] = {
            "name": one.generator,
            "role": None if is_trained else "test-only",
            "images": f"fake/{one.generator}/images/{{split}}/{{id}}.png",
            "masks": f"fake/{one.generator}/masks/{{split}}/{{id}}.png",
            "exclude": left_out,
            "reference": one.reference,
        }
        parts.append(("[[generator]]\n", {key: value for key, value in keys.items() if value}))
    parts.append(("[[generator]]\n", {"name": AUTHENTIC, "images": "real/{split}/{id}.png"}))
    texts = [head + "".join(f"{key} = {_toml(value)}\n" for key, value in keys.items()) for head, keys in parts]
    write_sealed(root / "suite.toml", (HEADER + "\n".join(texts)).encode())


def _toml(value: object) -> str:
    """Return text, or a list of texts, as TOML: JSON, but for one sign."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
