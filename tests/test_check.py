"""`deeploc-bench check`: a plugin's author learns in seconds what is wrong."""

from __future__ import annotations

import json

import pytest

from deeploc_bench.conformance.checking import check
from deeploc_bench.contract.errors import UsageError

SIGMOID = '''"""Two mistakes."""
from deeploc_bench import Loss, Model, hookimpl

def build():
    from torch import nn
    return nn.Sequential(nn.Conv2d(3, 1, 1), nn.Sigmoid())

@hookimpl
def deeploc_models():
    return [Model(name="squashed", build=build, reference=None, pretraining="none")]

@hookimpl
def deeploc_losses():
    return [Loss(name="nothing", build=lambda: lambda logits, masks: 0 * logits.sum())]
'''


def test_the_first_plugin_is_sound_a_line_a_check(deeploc, two_layer):
    done = deeploc("check", two_layer)
    plugin, hooks, heading, *lines = done.stdout.splitlines()
    assert (done.returncode, plugin, heading) == (0, "plugin two_layer: ok", "model two-layer: ok"), done.stderr
    assert hooks.endswith("loads, and has deeploc_models")
    assert len(lines) > 15 and all(line.startswith(("  ok      ", "  note    ")) for line in lines)


@pytest.mark.slow
def test_all_that_is_wrong_with_a_plugin_is_listed_and_the_exit_code_tells(deeploc, tmp_path):
    (tmp_path / "squashed.py").write_text(SIGMOID)
    done = deeploc("check", "squashed.py")
    assert done.returncode == 1
    assert done.stdout.splitlines()[2] == "model squashed: FAILED"
    squashed = "FAILED  logits       model 'squashed' (plugin 'squashed') returns numbers that never fall below 0"
    assert squashed in done.stdout
    assert "FAILED  truth        loss 'nothing' (plugin 'squashed') is 0 whatever is predicted" in done.stdout
    found = json.loads(deeploc("check", "squashed.py", "--json").stdout)
    failed = [[each["check"] for each in one["checks"] if each["level"] == "error"] for one in found]
    assert ([one["name"] for one in found], failed, [one["ok"] for one in found]) == (
        ["plugin squashed", "model squashed", "loss nothing"],
        [[], ["logits"], ["truth"]],
        [True, False, False],
    )


@pytest.mark.slow
def test_the_same_mistakes_are_refused_before_any_training(deeploc, tmp_path):
    (tmp_path / "squashed.py").write_text(SIGMOID)
    for flags in (["--model", "squashed"], ["--loss", "nothing"]):
        done = deeploc("run", "--plugin", "squashed.py", *flags)
        trained = list(tmp_path.glob("runs/*/*/*/*/epochs.csv"))
        assert (done.returncode, "Traceback" in done.stderr, trained) == (2, False, [])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["photos", "dice", "all-manipulated"])
def test_a_suite_a_loss_and_a_detector_are_checked_by_name(deeploc, name):
    done = deeploc("check", name)
    assert (done.returncode, done.stdout.split()[1:3]) == (0, [f"{name}:", "ok"]), done.stderr


def test_a_name_of_nobody_is_answered_with_those_there_are(deeploc):
    done = deeploc("check", "residual-uneT")
    assert (done.returncode, "Did you mean 'residual-unet'?" in done.stderr) == (2, True)


OBSERVER = """from deeploc_bench import hookimpl

@hookimpl
def deeploc_epoch_finished(epoch):
    pass
"""


def test_an_observer_is_told_by_its_hooks_and_a_plugin_without_any_fails(tmp_path):
    (tmp_path / "watching.py").write_text(OBSERVER)
    (tmp_path / "idle.py").write_text("")
    (watching,), (idle,) = (tuple(check(str(tmp_path / name))) for name in ("watching.py", "idle.py"))
    assert (watching.is_ok, idle.is_ok) == (True, False)
    assert "has deeploc_epoch_finished" in watching.text and "it has no hook" in idle.text


def test_a_loss_is_checked_as_it_is_asked_for(registry):
    (one,), (sum_,) = (tuple(check(text, registry=registry)) for text in ("focal(gamma=3)", "0.5*dice+bce"))
    assert (one.name, one.is_ok, sum_.is_ok) == ("loss focal(gamma=3)", True, True)
    with pytest.raises(UsageError, match="'own' is a model's own; check the model"):
        list(check("own+dice", registry=registry))
