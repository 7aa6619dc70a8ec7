"""Observers: what they hear, in which order, and that nothing they do changes anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import records_of

from deeploc_bench.contract.errors import PluginError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.suites import silent
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.training.engines import run_local
from deeploc_bench.training.workplace import Workplace

TINY = Path(__file__).parent / "tiny.py"
DOCUMENT = Path(__file__).parents[1] / "docs/observers.md"
DIARY = re.search(r"```python[^\n]*\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)[1]
HEARER = '''
"""Notes each call, and writes into everything that it gets."""
from deeploc_bench import hookimpl

HEARD = []

def spoil(training, records):
    training.test_data["bright"] = "spoilt"
    for found in records.values():
        found.counts[:] = 0
    records.clear()

@hookimpl
def deeploc_training_started(training, folder):
    HEARD.append(("started", training.what, folder, ()))
    spoil(training, {})

@hookimpl
def deeploc_epoch_finished(training, folder, epoch):
    HEARD.append(("epoch", training.what, folder, (epoch.epoch, sorted(training.test_data.values()))))
    try:
        epoch.valid_iou = 9
    except AttributeError:
        HEARD.append(("refused", training.what, folder, ()))

@hookimpl
def deeploc_training_finished(training, folder, records):
    HEARD.append(("finished", training.what, folder, {name: found.tp.sum() for name, found in records.items()}))
    spoil(training, records)

@hookimpl
def deeploc_training_reused(training, folder, records):
    HEARD.append(("reused", training.what, folder, {name: found.tp.sum() for name, found in records.items()}))
    spoil(training, records)
'''


def observed(folder, *plugins, **changes):
    """Train on the tiny suite while plugins look on; returns the registry and what was said."""
    said, asked = [], {"models": ("residual-unet",), "recipe": "quick", "settings": ("epochs=1",), **changes}
    job = Job(suite="tiny", plugins=[str(TINY), *map(str, plugins)], **asked)
    prepared = prepare(job, silent)
    assert not run_local(prepared, Workplace(runs=folder / "runs", progress=silent, say=said.append)).failed
    return prepared.registry, said


def test_an_observer_hears_all_that_happens_and_what_it_writes_changes_nothing(tmp_path):
    for name in ("hearer", "other"):
        (tmp_path / f"{name}.py").write_text(HEARER)
    registry, said = observed(tmp_path, tmp_path / "hearer.py", tmp_path / "other.py")
    one, other = (plugin.module.HEARD for plugin in registry.plugins[-2:])
    assert one == other and said == []
    own = [call for call in one if call[1] == "residual-unet + jaccard"]
    assert [call[0] for call in own] == 2 * ["started", "epoch", "refused", "finished"]
    assert "spoilt" not in own[1][3][1]
    assert [call[0] for call in one if call[1] == "position-prior"] == 2 * ["started", "finished"]
    written = records_of(tmp_path / "runs")
    for _, _, folder, found in (call for call in one if call[0] == "finished"):
        assert folder.is_relative_to(tmp_path / "runs") and found
    assert all(sum(found.values()) > 0 for _, what, _, found in one if what == "position-prior" and found)
    registry, _ = observed(tmp_path, tmp_path / "hearer.py")
    again = registry.plugins[-1].module.HEARD
    assert {call[0] for call in again} == {"reused"}
    assert sorted(call[1:] for call in again) == sorted(call[1:] for call in one if call[0] == "finished")
    assert records_of(tmp_path / "runs") == written


def test_the_diary_of_the_documents_tells_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("diary.py").write_text(DIARY)
    for _ in range(2):
        assert observed(tmp_path, "diary.py", protocols=("same",))[1] == []
    lines = Path("diary.txt").read_text().splitlines()
    place = lines.index("residual-unet + jaccard on bright, seed 0")
    assert re.fullmatch(r"  epoch 1 of 1: validation IoU 0\.\d{3}", lines[place + 1])
    assert re.fullmatch(r"  tested on bright: IoU 0\.\d{3} over 10 images, in seed0-[0-9a-f]{8}", lines[place + 2])
    assert lines.count("residual-unet + jaccard was there already") == 2


@pytest.mark.slow
def test_tensorboard_reads_back_what_its_observer_wrote(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    observed(tmp_path, "deeploc_bench_plugins.tensorboard", settings=("epochs=2",), protocols=("same",))
    (folder,) = tmp_path.glob("runs/tiny/residual-unet+jaccard/bright/*")
    events = reading.EventAccumulator(str(folder / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "valid_iou", "lr", "test_iou/bright"}
    rows = [line.split(",") for line in (folder / "epochs.csv").read_text().splitlines()]
    for name in ("loss", "valid_iou", "lr"):
        found = {event.step: event.value for event in events.Scalars(name)}
        expected = {int(row[0]): float(row[rows[0].index(name)]) for row in rows[1:]}
        assert found == pytest.approx(expected, rel=1e-5)
    (score,) = events.Scalars("test_iou/bright")
    assert 0 <= score.value <= 1 and len(list((folder / "tensorboard").iterdir())) <= 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("deeploc_epoch_finished(epok)", r"unknown argument of deeploc_epoch_finished 'epok'. Did you mean 'epoch'\?"),
        ("deeploc_training_started(record)", "Known: folder, training."),
        ("deeploc_epoch_done(epoch)", "unknown hook 'deeploc_epoch_done'"),
    ],
)
def test_a_wrong_argument_or_hook_is_named_with_those_that_are_allowed(tmp_path, wrong, told):
    (tmp_path / "wrong.py").write_text(f"from deeploc_bench import hookimpl\n@hookimpl\ndef {wrong}: ...\n")
    with pytest.raises(PluginError, match=told):
        load_plugins([str(tmp_path / "wrong.py")])


def test_every_observing_hook_is_told_of_in_the_document(registry):
    text = DOCUMENT.read_text("utf-8")
    hooks = [name for name in dir(registry.manager.hook) if re.match("deeploc_(epoch|training)_", name)]
    assert len(hooks) == 4
    for name in hooks:
        assert f"| `{name}({', '.join(getattr(registry.manager.hook, name).spec.argnames)})` |" in text
