"""`deeploc-bench predict`: heatmaps and overlays of images, by a finished training."""

import tempfile
from collections import Counter
from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import DataError, UsageError
from deeploc_bench.contract.files import digest, filling
from deeploc_bench.contract.findings import summary
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.folders import paired_samples, sample_id
from deeploc_bench.data.packs import pack
from deeploc_bench.plan import store
from deeploc_bench.plan.finished import model_of, settings_of


@click.command("predict")
@click.argument("training")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder for heatmaps/ and overlays/.")
@click.option("--model", metavar="FILE.toml", help="The file that describes the model, where one does.")
@common.plugin_option
@common.device_option("predict")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads. [as in the training]")
def command(
    *,
    training: str,
    images: tuple[str, ...],
    output: str,
    model: str | None,
    plugins: tuple[str, ...],
    device: str,
    threads: int | None,
) -> None:
    """Predict images (files, or folders of them) by a finished training, a folder below the runs folder."""
    from deeploc_bench.training.device import resolve_device, set_arithmetic, working_on
    from deeploc_bench.training.evaluate import open_localizer
    from deeploc_bench.training.pictures import write_predictions

    folder, target = Path(training), Path(output)
    if not (folder / "training.json").exists():
        raise UsageError(f"{training} is not a training's folder (it holds no training.json)")
    facts = store.read_facts(folder)
    settings = settings_of(folder, facts)
    owned = model_of(folder, facts, common.load(plugins), model)
    environment, where = store.read_environment(folder), resolve_device(device)
    set_arithmetic(threads or environment.threads, where)
    weights = folder / "model.safetensors" if facts.is_learned else None
    localizer = open_localizer(owned, settings, weights=weights, device=where, precision=environment.precision)
    samples = _samples(images)
    progress = common.progress("predict", 2 * len(samples))
    with working_on(where), tempfile.TemporaryDirectory() as scratch, progress as tick:
        packed = pack(samples, inverted=False, folder=Path(scratch), tick=tick, threads=threads or common.cores())
        if packed.findings:
            raise DataError("\n  ".join(["some images cannot be predicted:", *summary(packed.findings)]))
        with filling(target, ("heatmaps", "overlays"), digest([facts.identity, packed.fingerprint])):
            write_predictions(localizer, packed, target, tick)
    common.put(f"{len(packed)} heatmaps in {target / 'heatmaps'}, overlays in {target / 'overlays'}")


def _samples(images: tuple[str, ...]) -> list[Sample]:
    samples = []
    for path in map(Path, images):
        if path.is_dir():
            samples += paired_samples(path, None)
        else:
            id = sample_id(path.stem)
            samples.append(Sample(id=id, source=id, image=path, mask=None))
    twice = sorted(id for id, count in Counter(sample.id for sample in samples).items() if count > 1)
    if twice:
        raise DataError(f"two images are called {twice[0]!r}; predict them into different folders")
    return samples
