"""The artifacts of a training: read back as they were written, or refused in one message with file and cure."""

from __future__ import annotations

import fcntl
import re
import shutil
import signal
import subprocess
import sys
from threading import Thread

import msgspec
import numpy as np
import pytest
from runs import ENVIRONMENT, edit, facts_of, hash_of, records_of
from safetensors.numpy import save

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.data.perturb import parse_perturbation
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Epoch, FitState, identified
from deeploc_bench.plan.store import Tested

TRAINS = {"trained": ("b", "c", "d"), "fitted": ("b", "c", "d"), "tested": (), "scored": ("b", "c", "d")}
FACTS = {kind: facts_of(train, kind=kind) for kind, train in TRAINS.items()}
TRAINED = FACTS["trained"]
RECORDS = records_of([0.25, 0.5, 0.75, 1.0])
DATA = hash_of("images")
LAMA = Tested(generator="lama")


@pytest.mark.parametrize("kind", FACTS)
def test_facts_are_read_back(tmp_path, kind):
    store.write_facts(tmp_path, FACTS[kind])
    assert store.read_facts(tmp_path) == FACTS[kind]


def test_an_environment_is_read_back(tmp_path):
    store.write_environment(tmp_path, ENVIRONMENT)
    assert store.read_environment(tmp_path) == ENVIRONMENT


def flipped(content, place, bit=0):
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


OTHER = "is damaged (its content is not that of its checksum)"
DAMAGE = {
    "missing": (None, "is damaged (No such file or directory)"),
    "empty": (lambda content: b"", "is damaged (it is empty)"),
    "cut": (lambda content: content[:200], OTHER),
    "cut short": (lambda content: content[:20], "is damaged (it has no checksum)"),
    "longer": (lambda content: content + b"\n", OTHER),
    "zeros": (lambda content: bytes(len(content)), "is damaged (it has no checksum)"),
    "another value": (lambda content: content.replace(b'"lr": 0.003', b'"lr": 0.004'), OTHER),
    "another checksum": (lambda content: re.sub(rb"(?<=blake2b:)\w+", lambda found: found[0][::-1], content), OTHER),
    "a flipped bit": (lambda content: flipped(content, content.index(b'"valid": "') + 12), OTHER),
}
EDITS = {
    "a lost key": (lambda text: text.replace('"data"', '"date"'), "Did you mean 'data'"),
    "another value": (lambda text: text.replace('"lr": 0.003', '"lr": 0.004'), "is damaged: its identity"),
    "another seed": (lambda text: text.replace('"seed": 0', '"seed": 1'), "is damaged: its identity"),
    "no end": (lambda text: text[:200], "is not JSON"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_facts_are_one_message_with_their_file_and_what_to_do(tmp_path, what):
    change, told = DAMAGE[what]
    file = tmp_path / "training.json"
    store.write_facts(tmp_path, TRAINED)
    if change:
        assert change(file.read_bytes()) != file.read_bytes()
        file.write_bytes(change(file.read_bytes()))
    else:
        file.unlink()
    with pytest.raises(StoreError) as caught:
        store.read_facts(tmp_path)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"Delete {file} and run its command again.")


@pytest.mark.parametrize("what", EDITS)
def test_what_a_hand_has_edited_is_read_strictly(tmp_path, what):
    change, told = EDITS[what]
    store.write_facts(tmp_path, TRAINED)
    edit(tmp_path / "training.json", change)
    with pytest.raises(StoreError) as caught:
        store.read_facts(tmp_path)
    assert told in str(caught.value) and "Delete " in str(caught.value)


def test_facts_of_another_version_are_not_called_damaged(tmp_path):
    file = tmp_path / "training.json"
    store.write_facts(tmp_path, TRAINED)
    edit(file, lambda text: text.replace('"schema": ', '"schema": 9'))
    with pytest.raises(
        StoreError, match=r"has schema 9\d; this version reads \d. .* move it away, or name another with"
    ):
        store.read_facts(tmp_path)


@pytest.mark.parametrize("what", ["missing", "empty", "cut", "zeros"])
def test_a_damaged_environment_is_one_message_and_never_a_guess(tmp_path, what):
    file = tmp_path / "environment.json"
    store.write_environment(tmp_path, ENVIRONMENT)
    file.write_bytes(DAMAGE[what][0](file.read_bytes())) if DAMAGE[what][0] else file.unlink()
    with pytest.raises(StoreError) as caught:
        store.read_environment(tmp_path)
    assert f"environment {file}" in str(caught.value)
    assert str(caught.value).endswith(f"What the arithmetic of {tmp_path} was is lost; delete it and run again.")


def test_an_environment_lacks_nothing_in_silence(tmp_path):
    store.write_environment(tmp_path, ENVIRONMENT)
    edit(tmp_path / "environment.json", lambda text: text.replace(' "precision": "fp32",\n', ""))
    with pytest.raises(StoreError, match="the key 'precision' is missing"):
        store.read_environment(tmp_path)


def test_records_are_read_back(tmp_path):
    store.write_records(tmp_path, LAMA, RECORDS, DATA)
    found = store.read_records(tmp_path, LAMA, DATA)
    assert (found.ids, found.sources, found.preds) == (RECORDS.ids, RECORDS.sources, RECORDS.preds)
    assert (found.counts == RECORDS.counts).all() and (found.histograms == RECORDS.histograms).all()
    assert (found.counts.dtype, found.histograms.dtype) == (np.int64, np.int32)


def test_records_that_are_not_there_are_none(tmp_path):
    assert store.read_records(tmp_path, LAMA, DATA) is None


def test_records_of_other_data_are_none(tmp_path):
    store.write_records(tmp_path, LAMA, RECORDS, DATA)
    assert store.read_records(tmp_path, LAMA, hash_of("others")) is None
    assert store.read_records(tmp_path, Tested(generator="ldm"), DATA) is None


def test_records_without_their_histograms_are_damaged(tmp_path):
    store.write_records(tmp_path, LAMA, RECORDS, DATA)
    (tmp_path / "test-lama.hist.safetensors").unlink()
    with pytest.raises(StoreError, match=r"test-lama.hist.safetensors is damaged .*; delete it and its .csv, and run"):
        store.read_records(tmp_path, LAMA, DATA)


@pytest.mark.parametrize("content", [b"", b"noise" * 100, save({"others": np.zeros(3)}, {"data": DATA})])
def test_damaged_histograms_are_one_message(tmp_path, content):
    store.write_records(tmp_path, LAMA, RECORDS, DATA)
    (tmp_path / "test-lama.hist.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match=r"test-lama.hist.safetensors is damaged .*; delete it and its .csv, and run"):
        store.read_records(tmp_path, LAMA, DATA)


def test_a_table_of_other_bytes_is_damaged(tmp_path):
    store.write_records(tmp_path, LAMA, RECORDS, DATA)
    (tmp_path / "test-lama.csv").write_bytes(b"\xff")
    with pytest.raises(StoreError, match="test-lama.csv is damaged .*; delete it and run again"):
        store.read_records(tmp_path, LAMA, DATA)


def test_the_table_comes_last_so_that_each_one_is_complete(tmp_path):
    store.write_records(tmp_path, LAMA, RECORDS, DATA)
    (tmp_path / "test-lama.hist.safetensors").unlink()
    (tmp_path / "test-lama.hist.safetensors").mkdir()
    with pytest.raises(StoreError, match="cannot write .*test-lama.hist.safetensors: Is a directory"):
        store.write_records(tmp_path, LAMA, records_of([0.5]), DATA)
    assert not (tmp_path / "test-lama.csv").exists()  # nor the old one, beside histograms that are not its own


def test_a_table_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "test-lama.csv").mkdir()
    with pytest.raises(StoreError, match="cannot write .*test-lama.csv: "):
        store.write_records(tmp_path, LAMA, RECORDS, DATA)


def test_what_was_tested_is_told_by_the_tables_sorted_by_name(tmp_path):
    perturbed = Tested(generator="ldm", perturbation=parse_perturbation("noise:0.02"))
    for tested in (perturbed, LAMA, Tested(generator="ldm"), Tested(generator="authentic")):
        store.write_records(tmp_path, tested, RECORDS, DATA)
    (tmp_path / "test-latent.hist.safetensors").write_bytes(b"")
    names = [tested.name for tested in store.tested_in(tmp_path)]
    assert names == ["authentic", "lama", "ldm", "ldm@noise-0.02"]
    assert store.tested_in(tmp_path)[3] == perturbed


def test_epochs_are_a_table_whose_validation_is_read_back(tmp_path):
    epochs = [Epoch(epoch=i, loss=1 / i, valid_iou=i / 3, lr=1e-3, seconds=1.5) for i in (1, 2)]
    table = store.write_epochs(tmp_path, epochs)
    store.write_environment(tmp_path, msgspec.structs.replace(ENVIRONMENT, epochs=table))
    assert (tmp_path / "epochs.csv").read_text() == (
        "epoch,loss,valid_iou,lr,seconds\n1,1.0,0.3333333333333333,0.001,1.5\n2,0.5,0.6666666666666666,0.001,1.5\n"
    )
    assert store.read_validation(tmp_path) == [1 / 3, 2 / 3]


def write_state(folder):
    epochs = tuple(Epoch(epoch=i, loss=0.5, valid_iou=0.5, lr=1e-3, seconds=1.5) for i in (1, 2))
    state = FitState(epochs=epochs, scaler={"scale": 8.0, "growth_interval": 2000})
    store.write_tensors(folder / "resume.safetensors", save, {"a": np.zeros(9)}, state)
    return state


def test_an_unfinished_training_can_go_on_after_the_epochs_that_its_state_tells_of(tmp_path):
    assert (store.read_state(tmp_path), store.finished_epochs(tmp_path)) == (None, 0)
    state = write_state(tmp_path)
    assert (store.read_state(tmp_path), store.finished_epochs(tmp_path)) == (state, 2)


@pytest.mark.parametrize("content", [b"", b"noise", save({"a": np.zeros(1)})])
def test_a_damaged_state_is_one_message_and_not_no_state(tmp_path, content):
    (tmp_path / "resume.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match=r"resume.safetensors is damaged .*; delete it and run again, from the first"):
        store.finished_epochs(tmp_path)


def write_all(folder, facts=TRAINED):
    """Write each artifact that has a reader here, and return the readers by the artifacts' names."""
    store.write_facts(folder, identified(facts))
    table = store.write_epochs(folder, [Epoch(epoch=1, loss=0.5, valid_iou=0.5, lr=1e-3, seconds=1.5)])
    store.write_environment(folder, msgspec.structs.replace(ENVIRONMENT, epochs=table))
    store.write_records(folder, LAMA, RECORDS, DATA)
    write_state(folder)
    return {
        "epochs.csv": store.read_validation,
        "environment.json": store.read_environment,
        "training.json": store.read_facts,
        "test-lama.csv": lambda folder: store.read_records(folder, LAMA, DATA),
        "test-lama.hist.safetensors": lambda folder: store.read_records(folder, LAMA, DATA),
        "resume.safetensors": store.read_state,
    }


ARTIFACTS = ["epochs.csv", "environment.json", "training.json", "resume.safetensors"]
ARTIFACTS += ["test-lama.csv", "test-lama.hist.safetensors"]


@pytest.mark.parametrize("name", ARTIFACTS)
def test_any_flipped_bit_and_any_cut_is_one_message_with_its_file(tmp_path, name):
    read, file = write_all(tmp_path)[name], tmp_path / name
    content = file.read_bytes()
    read(tmp_path)
    flips = [(flipped(content, place, place % 8), f"bit of byte {place}") for place in range(0, len(content), 3)]
    cuts = [(content[:size], f"{size} bytes") for size in range(0, len(content), 61)]
    for damaged, how in [*flips, *cuts]:
        file.write_bytes(damaged)
        with pytest.raises(StoreError) as caught:
            read(tmp_path)
            pytest.fail(f"{how}: read as if nothing were wrong")
        said = str(caught.value)
        assert str(file) in said and "elete" in said and "again" in said and "\n" not in said, how
    file.write_bytes(content)
    read(tmp_path)


@pytest.mark.parametrize(
    "name", ["environment.json", "resume.safetensors", "test-lama.csv", "test-lama.hist.safetensors"]
)
def test_an_artifact_of_another_training_is_one_message_with_its_file(tmp_path, name):
    read = write_all(tmp_path / "one")[name]
    write_all(tmp_path / "other", msgspec.structs.replace(TRAINED, seed=1))
    for kind in (name, "test-lama.csv", "test-lama.hist.safetensors") if name.startswith("test") else (name,):
        shutil.copy(tmp_path / "other" / kind, tmp_path / "one" / kind)
    with pytest.raises(
        StoreError, match="is damaged .its content is not that of its checksum, or it belongs elsewhere"
    ):
        read(tmp_path / "one")


def test_records_of_another_test_set_are_one_message(tmp_path):
    write_all(tmp_path)
    for suffix in (".csv", ".hist.safetensors"):
        shutil.copy(tmp_path / f"test-lama{suffix}", tmp_path / f"test-ldm{suffix}")
    with pytest.raises(StoreError, match=r"test-ldm.hist.safetensors is damaged .*, or it belongs elsewhere"):
        store.read_records(tmp_path, Tested(generator="ldm"), DATA)


def test_facts_in_the_folder_of_another_training_are_one_message(tmp_path):
    folder = tmp_path / "seed0-01234567"
    store.write_facts(folder, TRAINED)
    with pytest.raises(StoreError, match=f"is of another training, {TRAINED.identity[:8]}. Delete .* run its command"):
        store.read_facts(folder)


def test_the_same_tensors_are_the_same_bytes_each_time(tmp_path):
    for name in ("one", "other"):
        store.write_records(tmp_path / name, LAMA, RECORDS, DATA)
        store.write_tensors(tmp_path / name / "model.safetensors", save, {"b": np.ones(3), "a": np.zeros(1)}, None)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()


def test_records_without_their_facts_are_not_dropped_in_silence(tmp_path):
    store.write_facts(tmp_path / "a", TRAINED)
    store.write_records(tmp_path / "b", LAMA, RECORDS, DATA)
    with pytest.raises(StoreError, match="b holds records but no training.json, .* Run its command again, which rest"):
        store.training_folders(tmp_path)


def test_a_training_is_finished_when_its_model_is_there(tmp_path):
    assert not store.is_trained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert store.is_trained(tmp_path)


@pytest.mark.parametrize(
    ("kind", "is_ready"), [("trained", False), ("fitted", False), ("tested", True), ("scored", True)]
)
def test_only_what_is_learned_waits_for_its_model(tmp_path, kind, is_ready):
    assert store.is_ready(tmp_path, FACTS[kind]) is is_ready
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert store.is_ready(tmp_path, FACTS[kind])


@pytest.mark.parametrize("expression", ["jaccard", "0.5*dice+0.5*focal"])
def test_a_place_holds_no_star(expression):
    facts = msgspec.structs.replace(TRAINED, loss_expression=expression)
    what = f"net+{expression}".replace("*", "x")
    assert store.place_of(facts) == f"made/{what}/b+c+d/seed0-{TRAINED.identity[:8]}"


def test_what_has_no_loss_says_in_its_place_what_it_was_made_of():
    assert store.place_of(FACTS["tested"]) == f"made/net/untrained/seed0-{FACTS['tested'].identity[:8]}"
    assert store.place_of(FACTS["fitted"]) == f"made/net/b+c+d/seed0-{FACTS['fitted'].identity[:8]}"
    assert store.place_of(FACTS["scored"]) == f"made/net/b+c+d/seed0-{FACTS['scored'].identity[:8]}"
    nobody = facts_of(kind="scored")
    assert store.place_of(nobody) == f"made/net/undeclared/seed0-{nobody.identity[:8]}"


HOLDER = """
import sys
from pathlib import Path
from deeploc_bench.plan import store
folder = Path(sys.argv[1])
with store.locked(folder) as waited:
    print(waited, flush=True)
    sys.stdin.read()
    (folder / "released").touch()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "training"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "False\n"
        yield process
        process.kill()


def test_a_lock_that_another_process_holds_is_waited_for(tmp_path, holder):
    found = []

    def wait():
        with store.locked(tmp_path / "training") as waited:
            found.extend([waited, (tmp_path / "training/released").exists()])

    waiting = Thread(target=wait)
    waiting.start()
    waiting.join(0.2)
    assert found == []
    holder.stdin.close()
    waiting.join(60)
    assert found == [True, True]


def test_the_lock_of_a_killed_process_frees_itself(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with store.locked(tmp_path / "training") as waited:
        assert waited is False and not (tmp_path / "training/released").exists()


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), store.locked(tmp_path):
        raise ZeroDivisionError
    with store.locked(tmp_path) as waited:
        assert waited is False


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "runs").write_bytes(b"")
    with (
        pytest.raises(StoreError, match=f"cannot write {tmp_path}/runs/training: "),
        store.locked(tmp_path / "runs/training"),
    ):
        pass


def test_temporary_files_of_a_killed_process_are_swept_and_nothing_else(tmp_path):
    kept = ["training.json", "test-lama.csv", "test-v1.2-lama.csv", ".lock", "model.safetensors"]
    (tmp_path / "examples").mkdir()
    left = [".writing-training.json-x1y2", ".writing-test-lama@jpeg-75.hist.safetensors-q_1", "resume.safetensors"]
    for name in [*kept, *left, "examples/.writing-a.png-1", "examples/a.png"]:
        (tmp_path / name).touch()
    store.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([*kept, "examples", "a.png"])


def test_the_state_of_an_unfinished_training_is_not_swept(tmp_path):
    (tmp_path / "resume.safetensors").touch()
    store.sweep(tmp_path)
    assert (tmp_path / "resume.safetensors").exists()


def test_a_file_that_somebody_is_writing_is_not_swept(tmp_path):
    with (tmp_path / ".writing-a.json-1").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        store.sweep(tmp_path)
        assert list(tmp_path.iterdir())
    store.sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_training_below_a_folder_is_found_in_order(tmp_path):
    for name in ("b/x/seed1", "a/y/seed0", "a/seed2"):
        store.write_facts(tmp_path / name, TRAINED)
    found = [folder.relative_to(tmp_path).as_posix() for folder in store.training_folders(tmp_path)]
    assert found == ["a/seed2", "a/y/seed0", "b/x/seed1"]


@pytest.mark.parametrize(("name", "told"), [("nowhere", "there is no such runs folder"), (".", "holds no training")])
def test_a_folder_without_trainings_says_what_to_do(tmp_path, name, told):
    with pytest.raises(StoreError, match=rf"{told}. Run 'deeploc-bench run' first, or name another"):
        store.training_folders(tmp_path / name)
