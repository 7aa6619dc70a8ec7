"""One self-contained HTML page of a runs folder: opens offline, needs no script, works by keyboard and when narrow."""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image as Pillow

from deeploc_bench.contract.errors import DataError, StoreError
from deeploc_bench.data.opening import opened
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import TrainingFacts
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.figures import curves_of, iou_histogram, validation_curves
from deeploc_bench.results.render import Table, number
from deeploc_bench.results.sections import Section, sections
from deeploc_bench.results.tables import dialect_tables, image_level_tables, tables_of
from deeploc_bench.results.transfers import transfer_tables
from deeploc_bench.scoring.dialects import DIALECTS, find_dialect
from deeploc_bench.scoring.metrics import image_ious

MOST_EXAMPLES = 12
NUMBER = re.compile(r"-|[-+]?\d+(\.\d+)?\*?(,? ?[-+]?\d+\.\d+ to [-+]?\d+\.\d+| to \d+(\.\d+)?)?|\d+ of \d+")
"""What stands to the right in its column: numbers, intervals, and what stands in their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture as an address that holds all of it, and what it shows in words."""

    address: str
    caption: str


def render_report(cells: Sequence[Cell]) -> str:
    """Return the whole page: of each suite the tables that `results` prints, figures, examples and provenance.

    Raises StoreError where curves, examples or environments are damaged.
    """
    loader = PackageLoader("deeploc_bench.results", "")
    # StrictUndefined: a misspelt name is an error, not an empty place on the page
    page = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("report.html.j2")
    dialects = [find_dialect(name) for name in DIALECTS]
    suites = {
        suite: {
            "sections": [
                (section, tables_of(section), figures_of(section), examples_of(section)) for section in sections(own)
            ],
            "transfers": transfer_tables(own),
            "image_level": image_level_tables(own),
            "dialects": dialect_tables(own, dialects),
            "provenance": provenance_table(own),
        }
        for suite, own in grouped(cells, lambda cell: cell.facts.suite).items()
    }
    return page.render(suites=suites, is_number=lambda field: NUMBER.fullmatch(field) is not None) + "\n"


def figures_of(section: Section) -> list[Picture]:
    """Return validation curves, if something was trained, and the histogram of image IoUs; of a matrix neither.

    Raises StoreError where an epochs.csv is missing or damaged.
    """
    if section.cells[0].protocol == "cross":
        return []
    curves = curves_of(section.cells)
    drawn = {"Validation IoU by epoch": validation_curves(section.name, curves)["svg"]} if curves else {}
    ious = {
        test: np.concatenate([image_ious(cell.records) for cell in own]).tolist()
        for test, own in grouped(_averaged(section), lambda cell: cell.pair.test_generator).items()
    }
    drawn |= {"IoU of each test image": iou_histogram(ious)} if ious else {}
    return [Picture(address=_address("svg+xml", svg), caption=caption) for caption, svg in drawn.items()]


def examples_of(section: Section) -> list[Picture]:
    """Return the images that the section's trainings kept, at most 12 spread evenly from the best IoU to the worst.

    Each is image, truth, heatmap and prediction side by side. Raises StoreError where a file is damaged.
    """
    if section.cells[0].protocol == "cross":
        return []
    found = [example for cell in _averaged(section) for example in _kept(cell)]
    found.sort(key=lambda example: (-example[0], example[1]))
    chosen = np.linspace(0, len(found) - 1, min(MOST_EXAMPLES, len(found))).round().astype(int)
    return [Picture(address=_panels(file), caption=caption) for _, caption, file in (found[i] for i in chosen)]


def provenance_table(cells: Sequence[Cell]) -> Table:
    """Return a line for each training: what identifies it, and where it was done, as far as that is known.

    Raises StoreError where an environment.json is damaged, or that of a training done here is missing.
    """
    headers = ("training", "experiment", "identity", "device", "precision", "threads", "seconds", "versions")
    found = {cell.folder: cell.facts for cell in cells}
    lines = tuple(_provenance(folder, found[folder]) for folder in sorted(found))
    return Table(caption="Trainings", headers=headers, lines=lines)


def _provenance(folder: Path, facts: TrainingFacts) -> tuple[str, ...]:
    about = ("/".join(folder.parts[-4:]), facts.experiment[:8], facts.identity[:16])
    if not facts.is_learned and not (folder / "environment.json").exists():
        return (*about, "-", "-", "-", "-", "-")
    made = store.read_environment(folder)
    seconds = f"{made.wall_seconds:.1f}" if made.wall_seconds else "-"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(made.versions.items()))
    return (*about, made.device, made.precision, str(made.threads), seconds, versions)


def _averaged(section: Section) -> list[Cell]:
    """Return what the section's table is made of: its unperturbed cells of the seeds averaged, each test set once."""
    # a model that is never trained stands in a test-only generator's rows with the same records again and again
    tested = {
        (cell.folder, cell.test): cell
        for cell in section.cells
        if not cell.perturbation and cell.facts.seed in section.rows.seeds
    }
    return list(tested.values())


def _kept(cell: Cell) -> Iterator[tuple[float, str, Path]]:
    """Yield the IoU, the caption and the file of each test image that the cell's training kept as a picture."""
    test = store.Tested(generator=cell.pair.test_generator, suite=cell.transferred).name
    made = [cell.train, f"seed {cell.facts.seed}"] if cell.facts.is_learned else []
    for id, iou in zip(cell.records.ids, image_ious(cell.records).tolist(), strict=True):
        file = cell.folder / "examples" / f"{test}-{id}.png"
        if file.exists():
            yield iou, " · ".join([cell.test, id, *made, f"IoU {number(iou)}"]), file


def _panels(file: Path) -> str:
    """Return the address of a kept picture with the predicted mask as a fourth panel."""
    try:
        with opened(file) as picture:
            pixels = np.array(picture.convert("RGB"))  # (H, 3 W, 3): image, truth, heatmap
            place = store.seal_place(file.parent.parent / file.name)
            if picture.info.get(store.PLACE, place) != place:
                raise ValueError("it belongs elsewhere")
    except (OSError, SyntaxError, ValueError, DataError) as error:
        raise StoreError(f"example {file} cannot be read: {error}. Delete it; the report goes without it.") from None
    heatmap = pixels[:, 2 * (pixels.shape[1] // 3) :]
    prediction = np.where(heatmap > 127, 255, 0).astype(np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(np.concatenate([pixels, prediction], axis=1)).save(buffer, "PNG")
    return _address("png", buffer.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
