"""`deeploc-bench predict`: heatmaps and overlays of images, by a finished training."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import DataError, StoreError, UsageError
from deeploc_bench.contract.findings import summary
from deeploc_bench.contract.registry import origin
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.folders import paired_samples, sample_id
from deeploc_bench.data.packs import pack
from deeploc_bench.plan import store
from deeploc_bench.plan.recipe import recorded


@click.command("predict")
@click.argument("training")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder for heatmaps/ and overlays/.")
@common.plugin_option
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:i]", show_default=True, help="Where to predict.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads. [as in the training]")
def command(
    *, training: str, images: tuple[str, ...], output: str, plugins: tuple[str, ...], device: str, threads: int | None
) -> None:
    """Predict images (files, or folders of them) by a finished training, a folder below the runs folder."""
    from deeploc_bench.training.fit import open_localizer, resolve_device
    from deeploc_bench.training.predictions import write_predictions

    folder, target = Path(training), Path(output)
    inputs = store.read_json(folder / "training.json")
    if inputs is None or inputs.get("scored"):
        raise UsageError(f"{training} is no folder of a training (it holds no training.json of a model)")
    if any((target / part).exists() for part in ("heatmaps", "overlays")):
        raise StoreError(f"{output} holds predictions already; nothing is overwritten. Name another folder with -o.")
    owned = common.load(plugins).model(inputs["model"]["name"])
    if origin(owned)["source"] != inputs["model"]["source"]:
        raise UsageError(f"the code of model {owned.spec.name!r} has changed since {training} was trained; train again")
    if inputs["loss"] and not store.is_trained(folder):
        raise UsageError(f"{training} is not finished; run its command again first")
    threads = threads or len(os.sched_getaffinity(0))
    localizer = open_localizer(owned, recorded(inputs), folder, device=resolve_device(device), threads=threads)
    samples = _samples(images)
    with tempfile.TemporaryDirectory() as scratch, common.progress("predict", 2 * len(samples)) as tick:
        packed = pack(samples, inverted=False, folder=Path(scratch), tick=tick)
        if packed.findings:
            raise DataError("\n  ".join(["some images cannot be predicted:", *summary(packed.findings)]))
        write_predictions(localizer, packed, target, tick)
    print(f"{len(packed)} heatmaps in {target / 'heatmaps'}, overlays in {target / 'overlays'}")


def _samples(images: tuple[str, ...]) -> list[Sample]:
    samples = []
    for path in map(Path, images):
        if path.is_dir():
            samples += paired_samples(path, None)
        else:
            id = sample_id(path.stem)
            samples.append(Sample(id=id, source=id, image=path, mask=None))
    ids = [sample.id for sample in samples]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise DataError(f"two images are called {twice[0]!r}; predict them into different folders")
    return samples
