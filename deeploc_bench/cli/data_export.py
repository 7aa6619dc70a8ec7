"""`deeploc-bench data export`: the images of a suite as files, for another framework to train on or to predict."""

from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.files import digest, filling
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS, Split
from deeploc_bench.data.export import MASKS, write_images, write_masks
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Suite
from deeploc_bench.data.survey import load_sound


@click.command("export")
@click.argument("suite")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder for GENERATOR/<id>.png.")
@click.option("--split", default="test", metavar="|".join(SPLITS), show_default=True, help="Split to write.")
@click.option("--generator", "chosen", multiple=True, metavar="NAME", help="Generator (repeatable). [all]")
@click.option("--masks", is_flag=True, help="Write the masks too: masks/GENERATOR/<id>.png.")
@common.data_option
@common.plugin_option
def export(
    *,
    suite: str,
    output: str,
    split: Split,
    chosen: tuple[str, ...],
    masks: bool,
    data: str | None,
    plugins: tuple[str, ...],
) -> None:
    """Write the images of a suite as PNG files called by their ids, pixel by pixel as they are tested."""
    if split not in SPLITS:
        raise UsageError(f"--split: {unknown('split', split, SPLITS)}")
    datasets = common.load(plugins).suite(suite)
    loaded, _ = load_sound(datasets, data=data, progress=common.progress, threads=common.cores())
    packs = _packs(loaded, split, chosen)
    folder = Path(output)
    names = [one for name in packs for one in (name, f"{MASKS}/{name}")]
    what = digest([loaded.name, split, str(masks), *(f"{name} {pack.fingerprint}" for name, pack in packs.items())])
    with filling(folder, names, what), common.progress("write", sum(map(len, packs.values())) * (1 + masks)) as tick:
        for name, pack in packs.items():
            write_images(pack, folder / name, tick)
            if masks and name != AUTHENTIC:
                write_masks(pack, folder / MASKS / name, tick)
    counts = ", ".join(f"{name} {len(pack)}" for name, pack in packs.items())
    common.put(f"{folder}: {split} images of {loaded.name}: {counts}")


def _packs(suite: Suite, split: Split, chosen: tuple[str, ...]) -> dict[str, Pack]:
    """Return the packs asked for; those of all generators that have the split where nothing was."""
    for name in chosen:
        if name not in suite.generators:
            raise UsageError(unknown("generator", name, suite.generators))
        if split not in suite.generators[name].splits:
            raise UsageError(f"generator {name!r} has no {split} images: it is test-only")
    return {
        name: generator.splits[split]
        for name, generator in suite.generators.items()
        if split in generator.splits and name in (chosen or suite.generators)
    }
