"""`deeploc-bench predict`: heatmaps and overlays of images, by a finished training."""

import tempfile
from collections import Counter
from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import DataError, UsageError
from deeploc_bench.contract.files import digest, filling
from deeploc_bench.contract.findings import summary
from deeploc_bench.contract.registry import Owned, Registry
from deeploc_bench.contract.source import source_hash
from deeploc_bench.contract.specs import Model, Sample
from deeploc_bench.data.folders import paired_samples, sample_id
from deeploc_bench.data.packs import pack
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import TrainingFacts
from deeploc_bench.plan.plan import file_hash
from deeploc_bench.plan.recipe import settled_weights


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
    settings = facts.settings
    if settings is None:
        raise UsageError(f"{training} holds predictions made elsewhere, not a model that can predict")
    owned = _model(training, facts, model, common.load(plugins))
    if source_hash(owned) != facts.model.source:
        raise UsageError(f"the code of model {owned.spec.name!r} has changed since {training} was trained; train again")
    if owned.spec.weights and file_hash(settled_weights(owned.spec, "none")) != facts.weights:
        raise UsageError(
            f"{owned.spec.weights} has changed since {training} was tested by these weights; test it again"
        )
    if not store.is_ready(folder, facts):
        raise UsageError(f"{training} is not finished; run its command again first")
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


def _model(training: str, facts: TrainingFacts, asked: str | None, registry: Registry) -> Owned[Model]:
    """Return the model of a training, by its name or the file that describes it; raises UsageError."""
    name = facts.model.name
    if asked is None and facts.is_detector and not registry.find_model(name):
        raise UsageError(f"no plugin has {name!r}, the model of {training}; name the file that describes it by --model")
    owned = registry.model(asked or name)
    if owned.spec.name != name:
        raise UsageError(f"--model {asked} is {owned.spec.name!r}, and {training} is of {name!r}; leave --model out")
    return owned


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
