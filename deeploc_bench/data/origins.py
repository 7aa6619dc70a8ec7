"""What packed samples were made of, and the name of their pack, which follows from the state of the files."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import msgspec

from deeploc_bench.contract.files import digest
from deeploc_bench.contract.specs import Contained, Sample
from deeploc_bench.data.decoding import MaskRule

PACK_SCHEMA = 5


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a packed sample was made of: its id, its source, its files (no mask where it is authentic).

    Where a picture lies within a file, its place there stands beside it.
    """

    id: str
    source: str
    image: str
    mask: str | None
    image_place: str = ""
    mask_place: str = ""


def key_of(origins: Iterable[Origin], rule: MaskRule) -> str:
    """Return the name of the pack of these samples, which follows from the state of their files now."""
    state_of = cache(_file_state)  # a file may hold all of them
    texts = [f"{PACK_SCHEMA} {rule.inverted} {rule.above}" + (f" {rule.color}" if rule.color else "")]
    for origin in origins:
        texts += [origin.id, origin.source, *filter(None, (origin.image_place, origin.mask_place))]
        texts += [state_of(Path(file)) for file in (origin.image, origin.mask) if file is not None]
    return digest(texts)


def origins_of(samples: Sequence[Sample]) -> tuple[Origin, ...] | None:
    """Return what samples are made of, or None where one of them is not made of files."""
    origins = []
    for sample in samples:
        if not isinstance(sample.image, Path | Contained) or not isinstance(sample.mask, Path | Contained | None):
            return None
        image, image_place = _place(sample.image)
        mask, mask_place = (None, "") if sample.mask is None else _place(sample.mask)
        places = {"image_place": image_place, "mask_place": mask_place}
        origins.append(Origin(id=sample.id, source=sample.source, image=image, mask=mask, **places))
    return tuple(origins)


def _place(picture: Path | Contained) -> tuple[str, str]:
    """Return the file of a picture, and where in it the picture is."""
    if isinstance(picture, Contained):
        return str(picture.file.absolute()), picture.place
    return str(picture.absolute()), ""


def _file_state(file: Path) -> str:
    try:
        state = file.stat()
    except (OSError, ValueError):  # a name that no file can have
        return f"{file} cannot be read"
    return f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"
