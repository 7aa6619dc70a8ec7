"""The files that the templates of a description fit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from deeploc_bench_plugins.described.description import AUTHENTIC, Part
from deeploc_bench_plugins.described.patterns import groups_at_once, groups_of
from deeploc_bench_plugins.described.walk import fitting, literal

from deeploc_bench import IMAGE_SUFFIXES, DataError


class Files:
    """The files that fit a part's templates, listed once, by name: the id, or `folder/id` where there is `{folder}`."""

    def __init__(self, part: Part, data: Path, folder: str) -> None:
        self.part, self.data = part, data
        masks = None if part.name == AUTHENTIC else part.masks
        self.image_template, self.mask_template = (
            template and _relative(data, template.replace("{split}", folder)) for template in (part.images, masks)
        )
        self.masks = self._fitting((self.mask_template or "").replace("{key}", "{id}"))
        self.images = self._fitting(self.image_template or "", but=frozenset(self.masks.values()))

    @property
    def lacking(self) -> list[str]:
        """Return the names of the masks in those folders that have no image at all, where others have."""
        if not self.images or "{folder}" not in (self.mask_template or "") or "{key}" in (self.mask_template or ""):
            return []
        folders = {name.rpartition("/")[0] for name in self.images}
        lacking = [name for name in self.masks if name.rpartition("/")[0] not in folders]
        # what is left out on purpose is not lacking
        folders = (
            {name.rpartition("/")[0] for _, name in self._named(self.image_template or "")} if lacking else folders
        )
        return [name for name in lacking if name.rpartition("/")[0] not in folders]

    def image(self, name: str) -> Path | None:
        """Return the image of a name, None where there is no template; one that is not there is reported later."""
        return self._file(self.images, self.image_template, name) if self.image_template else None

    def mask(self, name: str, keys: Mapping[str, str]) -> Path | None:
        """Return the mask of a name, whose id has a key; one that is not there is reported by `data check`."""
        if not self.mask_template:
            return None
        folder, slash, id = name.rpartition("/")
        id = keys[id] if "{key}" in self.mask_template else id
        return self._file(self.masks, self.mask_template, f"{folder}{slash}{id}")

    def name(self, image: str) -> str:
        """Return the name of an image in a list, with its folder where a template has `{folder}`."""
        path = PurePosixPath(image)
        id = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
        has_folder = any("{folder}" in (template or "") for template in (self.image_template, self.mask_template))
        return f"{path.parent.name}/{id}" if has_folder else id

    def _file(self, files: Mapping[str, Path], template: str, name: str) -> Path:
        folder, _, id = name.rpartition("/")
        absent = template.replace("{folder}", folder).replace("{key}", id).replace("{id}", id)
        return files.get(name if "{folder}" in template else id, self.data / absent)

    def _fitting(self, template: str, but: frozenset[Path] = frozenset()) -> dict[str, Path]:
        """Return the image files that fit a template, by name, without those of `but`."""
        found: dict[str, Path] = {}
        if not template:
            return found
        for file, name in self._named(template):
            is_image = file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
            if not is_image or file in but or is_excluded(self.part, self.data, file):
                continue
            if name in found:
                raise DataError(
                    f"{file} and {found[name]} both fit {template!r} with one id; keep one, narrow it, exclude one, or "
                    "write {folder} where their paths differ"
                )
            found[name] = file
        return found

    def _named(self, template: str) -> Iterator[tuple[Path, str]]:
        """Yield the files that fit a template, sorted, each with its name."""
        anything = re.sub(r"\{id\}|\{folder\}", "*", template)
        files = {file.relative_to(self.data).as_posix(): file for file in sorted(fitting(self.data, anything))}
        pattern = _pattern(template)
        places = re.compile(pattern).groupindex
        found = groups_at_once(pattern, [*files]) if _is_quick(template) else groups_of(pattern, [*files], template)
        parts = [places[part] - 1 for part in ("folder", "id") if part in places]
        for path, groups in found.items():
            if groups is not None:
                yield files[path], "/".join(groups[part] or "" for part in parts)


def is_excluded(part: Part, data: Path, file: Path) -> bool:
    """Tell whether a file is left out, by a pattern of its name or of the end of its path."""
    return any(file.relative_to(data).match(pattern) for pattern in part.excluded)


def below(data: Path, name: str) -> Path:
    """Return the path of a name below the data root, relative to it or absolute; raises DataError for any other."""
    try:
        is_possible = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise DataError(f"{name!r:.80} is no path: it holds a character that no name of a file can")
    path = Path(name)
    roots = [root for root in (data.absolute(), data.resolve()) if path.is_relative_to(root)]
    if ".." in path.parts or (path.is_absolute() and not roots):
        raise DataError(f"{name!r} leads out of the data root {data}; paths are relative to it, or lie below it")
    return data / (path.relative_to(roots[0]) if roots else path)


def _relative(data: Path, template: str) -> str:
    return below(data, template).relative_to(data).as_posix()


def _is_quick(template: str) -> bool:
    """Tell whether a path that does not fit is given up soon: at most one name in it can be parted in many ways."""
    placed = [len(re.findall(r"\{id\}|\{folder\}|\*", name)) for name in template.split("/")]
    return sum(max(0, places - 1) for places in placed) <= 1


def _pattern(template: str) -> str:
    """Return the regular expression of a template; a placeholder stands for the same text throughout."""
    seen = set[str]()
    text = ""
    for part in re.split(r"(\{id\}|\{folder\}|\*)", template):
        name = part[1:-1]
        if part in ("{id}", "{folder}"):
            text += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            seen.add(name)
        else:
            text += "[^/]*" if part == "*" else literal(part)
    return rf"\A{text}\Z"
