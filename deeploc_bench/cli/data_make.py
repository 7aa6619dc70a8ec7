"""`deeploc-bench data make`: a generator dataset out of authentic images and any inpainting function."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.functions import load_function, options_of
from deeploc_bench.contract.specs import NAME_PATTERN, NAME_RULE
from deeploc_bench.data.decoding import MaskRule
from deeploc_bench.data.made import LEAST_CHANGE, Provenance, faint_ids, generator_folder, made_generators
from deeploc_bench.data.makers import making_of, name_of
from deeploc_bench.data.making import ARGUMENTS, make
from deeploc_bench.data.masks import KINDS, Drawing, MaskKind, parse_area
from deeploc_bench.data.originals import Folders, Photographs, Wish, parse_shares, read_photographs

SILENT = 10
"""Seconds after which a line tells of the progress where no bar can be drawn."""


@click.command("make")
@click.option("--with", "request", required=True, metavar="FILE.py|MODULE:FUNCTION", help="What makes the images.")
@click.option("--images", required=True, metavar="DIR", help="Authentic images, in folders or not.")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder of the suite; another generator joins it.")
@click.option("--masks", metavar="DIR", help="Masks called like the images, white where they are edited. [drawn]")
@click.option("--mask-kind", type=click.Choice(list(KINDS)), help="What is drawn. [free-form]")
@click.option("--area", metavar="LOW:HIGH", help="Least and most area of a drawn mask. [0.05:0.35]")
@click.option("--mask-above", type=click.FloatRange(0, 255, max_open=True), help="Level above which masks are white.")
@click.option("--inverted-masks", is_flag=True, help="Masks are black where the images are edited.")
@click.option("--source", default="(.*)", metavar="REGEX", show_default=True, help="Its group in an id is the source.")
@click.option("--splits", metavar="TRAIN:VALID:TEST", help="Shares of the sources. [folders, or 0.6:0.1:0.3]")
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True, help="Of masks, splits and the function.")
@click.option("--whole", is_flag=True, help="Keep the whole output, not the masked pixels alone.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="A keyword of the function (repeatable).")
@click.option("--batch-size", default=1, type=click.IntRange(1), show_default=True, help="Images of one size at once.")
@click.option("--name", metavar="NAME", help="The generator's name. [that of the function]")
@click.option("--suite", metavar="NAME", help="The suite's name. [that of the folder]")
@click.option("--license", metavar="TEXT", help="Terms of the function and its weights. [LICENSE of its module]")
@click.option("--reference", metavar="TEXT", help="Where it is described. [REFERENCE of its module]")
def make_dataset(
    *,
    request: str,
    images: str,
    output: str,
    masks: str | None,
    mask_kind: MaskKind | None,
    area: str | None,
    mask_above: float | None,
    inverted_masks: bool,
    source: str,
    splits: str | None,
    seed: int,
    whole: bool,
    options: tuple[str, ...],
    batch_size: int,
    name: str | None,
    suite: str | None,
    license: str | None,
    reference: str | None,
) -> None:
    """Make a generator dataset: authentic images, edited inside masks by a function.

    The function is inpaint(images, masks, random) -> images: uint8 (N, H, W, 3), bool (N, H, W), a numpy Generator.
    Generators made into one folder share ids, sources, splits and masks. Stopped, the same command goes on.
    """
    common.results_apart()
    _refuse_flags(masks, is_drawn=bool(mask_kind or area), is_read=mask_above is not None or inverted_masks)
    root = _root(output, images, masks)
    drawing = None if masks else Drawing(kind=mask_kind or "free-form", area=parse_area(area or "0.05:0.35"))
    wish = Wish(
        suite=_suite_name(root, suite),
        seed=seed,
        source=_pattern(source),
        shares=parse_shares(splits) if splits else None,
        drawing=drawing,
    )
    function = load_function(request, "--with", "inpaint", ARGUMENTS)
    making = making_of(
        function,
        options_of(function, ARGUMENTS, options, "--option"),
        name=name_of(function, name),
        whole=whole,
        batch_size=batch_size,
        license=license,
        reference=reference,
    )
    rule = MaskRule(inverted=inverted_masks, above=mask_above)
    folders = Folders(images=Path(images), masks=Path(masks) if masks else None, rule=rule)
    photographs = read_photographs(folders, wish, _progress)
    if unread := photographs.unread:
        common.say(f"warning: {len(unread)} files are left out, such as {unread[0]}")
    outcome = make(making, photographs, root, _progress)
    _tell(outcome.provenance, outcome.new, photographs, root)


def _refuse_flags(masks: str | None, *, is_drawn: bool, is_read: bool) -> None:
    if masks and is_drawn:
        raise UsageError("--mask-kind and --area are of masks that are drawn; leave them out, or leave --masks out")
    if is_read and not masks:
        raise UsageError("--mask-above and --inverted-masks are of masks that are read; give --masks DIR")


def _root(output: str, images: str, masks: str | None) -> Path:
    root = Path(output)
    for flag, folder in (("--images", images), ("--masks", masks)):
        if folder and root.resolve().is_relative_to(Path(folder).resolve()):
            raise UsageError(f"-o {output} lies in {flag} {folder}, whose files it would join; name a folder elsewhere")
    return root


def _suite_name(root: Path, suite: str | None) -> str:
    found = suite or root.resolve().name.lower()
    if not re.fullmatch(NAME_PATTERN, found):
        raise UsageError(f"the suite would be called {found!r}; expected {NAME_RULE}: --suite NAME")
    return found


def _pattern(source: str) -> str:
    try:
        groups = re.compile(source).groups
    except re.error as error:
        raise UsageError(f"--source {source!r} is not a regular expression: {error}") from None
    if groups < 1:
        raise UsageError(f"--source {source!r} has no group; put (...) round the part of an id that names the source")
    return source


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], object]]:
    """Show a bar, or a line now and then where stderr is no terminal."""
    done, told = 0, time.monotonic()
    with common.progress(title, total) as tick:

        def step() -> None:
            nonlocal done, told
            done += 1
            tick()
            if time.monotonic() - told > SILENT and not (sys.stderr and sys.stderr.isatty()):
                common.say(f"{title}: {done} of {total}")
                told = time.monotonic()

        yield step


def _tell(provenance: Provenance, new: int, photographs: Photographs, root: Path) -> None:
    folder, description = generator_folder(root, provenance.generator), root / "suite.toml"
    samples = photographs.originals.samples
    counts = ", ".join(f"{sum(one.split == split for one in samples)} {split}" for split in ("train", "valid", "test"))
    kept = "whole images" if provenance.maker.whole else "spliced"
    change = sum(edit.change for edit in provenance.edits) / len(samples)
    generators = made_generators(root)
    own, faint = faint_ids([provenance]), faint_ids(generators)
    if own:
        common.say(
            f"warning: {len(own)} edits change their pixels by under {LEAST_CHANGE:g} levels, such as {own[0]}; these "
            "images are left out of the suite, for every generator"
        )
    common.put(
        f"{folder}: {len(samples)} images ({counts}), {new} of them new; {kept}\n"
        f"mean change inside the masks: {change:.1f} levels; look at {folder / 'sheet.png'}\n"
        f"{description}: {', '.join(one.generator for one in generators)}"
        f"{f'; {len(faint)} images left out, whose edits can hardly be seen' if faint else ''}\n\nNext:\n\n"
        f"    deeploc-bench data check {description} --data {root}"
    )
