"""The file of a submission: strict, explained in words, read as records without copies."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from boards import PIXELS, submission, submission_of, write

from deeploc_bench.contract.errors import SubmissionError
from deeploc_bench.contract.files import to_json
from deeploc_bench.leaderboard.submission import parse, read

KEPT = sorted((Path(__file__).parents[1] / "leaderboard/submissions").glob("*/*.json"))
GOOD = submission()


def refusal(values):
    content = values if isinstance(values, bytes) else json.dumps(values).encode()
    with pytest.raises(SubmissionError) as caught:
        parse(content, "entry.json")
    return caught.value


def changed(key, value):
    values = copy.deepcopy(GOOD)
    values[key] = value
    return values


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_the_kept_submissions_are_read_and_written_back_without_loss(file):
    assert to_json(read(file)) == file.read_bytes()


def test_a_submission_is_written_and_read_back_without_loss(tmp_path):
    whole = submission_of(GOOD)
    file = write(tmp_path, GOOD)
    assert read(file) == whole
    assert to_json(read(file)) == file.read_bytes()
    assert json.loads(file.read_bytes()) == json.loads(json.dumps(msgspec.to_builtins(whole)))


def test_brackets_and_breaks_in_a_text_are_written_as_they_are():
    contact = "me [ at home ]\n[\n x ]"
    assert parse(to_json(submission_of(changed("contact", contact))), "entry.json").contact == contact


def test_records_share_the_ids_and_count_the_rest_of_the_pixels_as_tn():
    whole = submission_of(GOOD)
    training = whole.trainings[0]
    records = whole.records(training, "lama")
    assert records.ids is whole.ids["lama"] and records.preds is training.tests["lama"].pred
    assert records.pixels.tolist() == [PIXELS] * 12
    assert records.counts.dtype == np.int64 and not records.counts[:, 4:].any()
    assert records.fp.tolist() == GOOD["trainings"][0]["tests"]["lama"]["fp"]


EXPLAINED = {
    "a day that is not in the calendar": ("date", "2026-02-30", "a day of the calendar, YYYY-MM-DD"),
    "a date with a line break": ("date", "2026-01-31\n", "a day of the calendar"),
    "a name with a line break": ("name", "entry\n", "lower-case letters, digits"),
    "a link with a line break": ("code", "https://example.org/\n", "an address that begins with https://"),
    "a hash with a line break": ("fingerprint", "f" * 32 + "\n", "16 to 64 hex digits"),
    "a loss with a line break": ("loss_expression", "jaccard\n", "a loss or a weighted sum"),
    "a budget of nobody": ("budget", "double", "one of full, matched"),
    "a source that is no hash": ("model", {**GOOD["model"], "source": "main"}, "16 to 64 hex digits"),
    "no contact": ("contact", "", "text of 1 to 200 characters"),
    "a huge seed": ("seeds", [10**30], "a whole number, 0 to 2147483647"),
}


@pytest.mark.parametrize("what", EXPLAINED)
def test_what_is_not_allowed_is_explained_in_words(what):
    key, value, words = EXPLAINED[what]
    error = refusal(changed(key, value))
    assert (error.check, words in str(error), key in str(error)) == ("schema", True, True), str(error)
    assert "regex" not in str(error) and "\\A" not in str(error) and "`" not in str(error)


@pytest.mark.parametrize("text", [b"1e999", b"-1e999", b"Infinity", b"NaN"])
def test_numbers_that_are_not_finite_are_refused(text):
    content = json.dumps(GOOD).encode().replace(b'"wall_seconds": 3.5', b'"wall_seconds": ' + text)
    assert refusal(content).check == "nan"


def test_a_baseline_is_told_from_a_detector_that_is_only_tested():
    bare = {**GOOD, "loss": [], "recipe": None}
    assert submission_of(bare).is_baseline  # as in the files that have no such key
    assert not submission_of({**bare, "baseline": False}).is_baseline
    assert not submission_of(GOOD).is_baseline
    assert submission_of({**GOOD, "baseline": True}).is_baseline
