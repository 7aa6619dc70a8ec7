"""Tells observers, and whoever reads a log, what becomes of trainings."""

from collections.abc import Iterable

from deeploc_bench.contract.registry import observe
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Epoch
from deeploc_bench.plan.job import Prepared
from deeploc_bench.plan.plan import Training
from deeploc_bench.training import ranks
from deeploc_bench.training.workplace import Workplace


def tell_epoch(prepared: Prepared, place: Workplace, training: Training, epoch: Epoch) -> None:
    """Tell the observers of a finished epoch, and whoever reads a log."""
    if not place.is_terminal:
        found = f"loss {epoch.loss:.3f}, validation IoU {epoch.valid_iou:.3f}, {epoch.seconds:.1f} s"
        place.say(f"{training.title}: epoch {epoch.epoch} of {training.recipe.epochs}, {found}")
    tell(prepared, place, training, "deeploc_epoch_finished", epoch=epoch)


def tell_done(prepared: Prepared, place: Workplace, training: Training, *, is_reused: bool = False) -> None:
    """Tell the observers of a training that is trained and tested: now, or before."""
    folder, data = place.runs / training.place, prepared.suite.test_fingerprints
    hook = "deeploc_training_reused" if is_reused else "deeploc_training_finished"
    records = {
        tested.name: found
        for tested in prepared.plan.tests[training.facts.identity]
        if (found := store.read_records(folder, tested, data[tested.generator])) is not None
    }
    tell(prepared, place, training, hook, records=records)


def tell(prepared: Prepared, place: Workplace, training: Training, hook: str, **what: object) -> None:
    """Call a hook of all observers, with the training's facts and folder; one that raises is a warning."""
    if ranks.is_leader():
        told = {"training": training.facts, "folder": place.runs / training.place, **what}
        for finding in observe(prepared.registry, hook, **told):
            place.say(f"warning: {finding}")


def tell_reused(prepared: Prepared, place: Workplace, remaining: Iterable[Training]) -> None:
    """Tell the observers of the trainings that are not among those that something remains to do of."""
    left = {training.facts.identity for training in remaining}
    for identity, training in prepared.plan.trainings.items():
        if identity not in left:
            tell_done(prepared, place, training, is_reused=True)
