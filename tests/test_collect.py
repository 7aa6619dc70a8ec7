"""Finished trainings become one submission: chosen without doubt, whole, and never one that would be refused."""

from __future__ import annotations

import datetime
import json
import re

import pytest
from boards import board, improved, outline, submission, submission_of
from msgspec.structs import replace
from runs import authentic_of, edit, facts_of, others, records_of, write_training

from deeploc_bench.contract.errors import DataError, StoreError, SubmissionError, UsageError
from deeploc_bench.contract.files import to_json
from deeploc_bench.leaderboard.collect import Declaration, Selection, collect
from deeploc_bench.leaderboard.folder import unlisted
from deeploc_bench.leaderboard.saving import save
from deeploc_bench.leaderboard.speed import read_speed
from deeploc_bench.leaderboard.submission import read
from deeploc_bench.leaderboard.verify import review
from deeploc_bench.plan.facts import identified
from deeploc_bench.plan.recipe import load_recipe

ABC = ("a", "b", "c")
IOUS = [0.25, 0.5, 0.75, 0.5]


def finished(runs, *, seeds=(0, 1), protocols=("loo", "same"), other=None, **changes):
    """Write the trainings of a method, as `run` leaves them; `other` are facts that the maker does not take."""
    for seed in seeds:
        for test in ABC:
            sets = {others(test, ABC): {test}} if "loo" in protocols else {}
            if "same" in protocols:
                sets[test,] = {test}
            for train, tests in sets.items():
                facts = facts_of(train, seed=seed, standard_generators=ABC, pretraining="none", **changes)
                facts = identified(replace(facts, **other or {}))
                ious = [iou + 0.01 * seed for iou in IOUS]
                write_training(runs, facts, {name: records_of(ious) for name in tests})


def never_trained(runs, **changes):
    """Write a model that is never trained, tested on everything."""
    facts = facts_of(kind="tested", standard_generators=ABC, extra=("authentic",), pretraining="none", **changes)
    write_training(runs, facts, {name: records_of(IOUS) for name in ABC}, authentic=authentic_of([0.1] * 4))


def wish(**changes):
    return Selection(**{"suite": "made", "model": "net", "loss": "jaccard", **changes})


def said(**changes):
    return Declaration(**{"name": "entry", "contact": "me", "date": datetime.date(2026, 1, 31), **changes})


def refusal(runs, selection, kind=UsageError):
    with pytest.raises(kind) as caught:
        collect(runs, selection, said())
    return str(caught.value)


def test_all_complete_seeds_are_collected_with_their_environment(tmp_path):
    finished(tmp_path)
    finished(tmp_path, seeds=(2,), protocols=("same",))
    found = collect(tmp_path, wish(), said())
    assert (found.seeds, found.budget, found.division, found.baseline) == ((0, 1), "full", "closed", False)
    assert found.claims.loo.by_generator == pytest.approx(dict.fromkeys(ABC, 0.505))
    assert found.claims.gap == pytest.approx(0)
    environment = found.trainings[0].environment
    assert (environment.device, environment.threads, environment.wall_seconds) == ("Abacus 2000", 2, 12.25)
    assert type(environment).__name__ == "Environment"


def test_what_is_collected_is_verified_when_it_is_written(tmp_path):
    finished(tmp_path / "runs")
    file = tmp_path / "board/submissions/made/entry.json"
    whole = collect(tmp_path / "runs", wish(), said(code="https://example.org/x"))
    entry = save(whole, file)
    assert (read(file), entry.claims) == (whole, whole.claims)
    assert [str(one) for one in review(tmp_path / "board")[0].failures] == [unlisted("made")]
    outline(tmp_path / "board", "made", ABC, authentic=False)
    assert [verdict.is_ok for verdict in review(tmp_path / "board")] == [True]


def test_nothing_is_written_that_would_be_refused(tmp_path):
    finished(tmp_path / "runs")
    file = tmp_path / "board/submissions/made/entry.json"
    for changes, words in (
        ({"contact": "x" * 201}, "text of 1 to 200 characters"),
        ({"contact": "me\udcff"}, "holds what is no text"),
        ({"code": "http://example.org"}, "begins with https://"),
        ({"name": "winner"}, "error [name] name 'winner'"),
        ({"pretraining_generators": ("a",)}, "error [held-out] a is held out"),
    ):
        with pytest.raises(SubmissionError, match=re.escape(words)):
            save(collect(tmp_path / "runs", wish(), said(**changes)), file)
    assert not file.exists()


def test_the_manifest_of_the_board_is_asked_before_writing(tmp_path):
    finished(tmp_path / "runs")
    (tmp_path / "board/suites").mkdir(parents=True)
    manifest = tmp_path / "board/suites/made.json"
    manifest.write_text(json.dumps({"schema": 1, "suite": "made", "fingerprint": "0" * 32, "generators": {}}))
    file = tmp_path / "board/submissions/made/entry.json"
    with pytest.raises(SubmissionError, match=r"error \[fingerprint\] trained on data"):
        save(collect(tmp_path / "runs", wish(), said()), file)
    manifest.write_text("{")
    with pytest.raises(DataError, match=r"made\.json is not JSON"):
        save(collect(tmp_path / "runs", wish(), said()), file)
    assert not file.exists()


def test_half_of_an_optional_protocol_is_told_of_by_its_first_missing_cell(tmp_path):
    finished(tmp_path / "runs", seeds=(0, 1), protocols=("loo",))
    finished(tmp_path / "runs", seeds=(0,), protocols=("same",))
    with pytest.raises(
        SubmissionError, match=r"same is complete or absent: 3 of its tests .* seed 1, trained on a, test a"
    ):
        save(collect(tmp_path / "runs", wish(), said()), tmp_path / "entry.json")
    assert collect(tmp_path / "runs", wish(seeds=[0]), said()).claims.same is not None


def test_a_seed_that_lacks_a_cell_is_named(tmp_path):
    finished(tmp_path, seeds=(0,))
    write_training(
        tmp_path, facts_of(("b", "c"), seed=1, standard_generators=ABC, pretraining="none"), {"a": records_of(IOUS)}
    )
    assert collect(tmp_path, wish(), said()).seeds == (0,)
    assert "lacks tests of loo: seed 1 w/o b, seed 1 w/o c. Run them: deeploc-bench run" in refusal(
        tmp_path, wish(seeds=[1])
    )
    assert "seed 7 w/o a" in refusal(tmp_path, wish(seeds=[0, 7]))


def test_where_no_seed_is_complete_the_missing_cells_are_named(tmp_path):
    write_training(tmp_path, facts_of(("b", "c"), standard_generators=ABC), {"a": records_of(IOUS)})
    assert "seed 0 w/o b, seed 0 w/o c" in refusal(tmp_path, wish())


def test_what_is_not_there_is_told_of_with_what_is(tmp_path):
    finished(tmp_path)
    never_trained(tmp_path, model="detector")
    assert "of this suite it holds: detector, net+jaccard" in refusal(tmp_path, wish(loss="dice"))
    assert "of this suite it holds: none" in refusal(tmp_path, wish(suite="other"))
    assert "no such runs folder" in refusal(tmp_path / "nowhere", wish(), StoreError)


def choices(message):
    return re.findall(
        r"--experiment ([0-9a-f]+)  --recipe '([^']*)'  code ([0-9a-f]+), (\d+) trainings, seeds ([\d, ]+)", message
    )


def test_candidates_of_other_code_can_always_be_told_apart_and_chosen(tmp_path):
    finished(tmp_path, source="original")
    finished(tmp_path, source="edited", seeds=(0,))
    found = choices(refusal(tmp_path, wish()))
    assert sorted(choice[1:2] + choice[3:] for choice in found) == [("quick", "12", "0, 1"), ("quick", "6", "0")]
    assert len({choice[0] for choice in found}) == len({choice[2] for choice in found}) == 2
    assert len(choices(refusal(tmp_path, wish(recipe="quick")))) == 2
    for hash, _, code, _, _ in found:
        assert len(hash) == 8
        for beginning in (hash, hash[:5], hash.upper()):
            assert collect(tmp_path, wish(experiment=beginning), said()).model.source == code


def test_an_experiment_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    finished(tmp_path)
    message = refusal(tmp_path, wish(experiment="xyz"))
    assert "none of them as asked for; choose one:" in message and len(choices(message)) == 1


def test_candidates_of_other_recipes_can_be_chosen_by_label_or_name(tmp_path):
    quick, poster = load_recipe("quick"), load_recipe("poster")
    for recipe in (quick, replace(quick, lr=0.01), poster):
        finished(tmp_path, recipe=recipe, seeds=(0,))
    assert len(choices(refusal(tmp_path, wish()))) == 3
    for name, lr in (("quick", quick.lr), ("quick, lr=0.01", 0.01), ("poster", poster.lr)):
        assert collect(tmp_path, wish(recipe=name), said()).recipe["lr"] == lr


def test_a_budget_is_chosen_where_there_are_two(tmp_path):
    finished(tmp_path)
    fewer = {"train_samples": (8, 8), "available_samples": (16, 16), "train": "0" * 32}
    finished(tmp_path, protocols=("loo",), other=fewer)
    assert "two budgets; choose: --budget full or matched" in refusal(tmp_path, wish())
    for budget in ("full", "matched"):
        assert collect(tmp_path, wish(budget=budget), said()).budget == budget
    assert "unknown budget 'half'" in refusal(tmp_path, wish(budget="half"))


def test_a_budget_that_was_never_trained_is_told_of(tmp_path):
    finished(tmp_path)
    assert "has no loo trainings of budget 'matched'" in refusal(tmp_path, wish(budget="matched"))


@pytest.mark.parametrize("is_baseline", [True, False])
def test_a_model_that_is_never_trained_stands_for_every_training(tmp_path, is_baseline):
    never_trained(tmp_path / "runs", model="detector", baseline=is_baseline)
    found = collect(tmp_path / "runs", wish(model="detector", loss=None), said())
    assert (found.loss, found.recipe, found.loss_expression, found.seeds) == ((), None, "untrained", (0,))
    assert (found.baseline, found.is_baseline, found.division) == (is_baseline, is_baseline, "open")
    # what a detector was trained on elsewhere is no generator of the suite's
    assert (found.claims.gap, found.claims.cross is None) == ((0, False) if is_baseline else (None, True))
    assert found.claims.false_alarm_area == pytest.approx(0.1)
    assert save(found, tmp_path / "entry.json").about.is_baseline == is_baseline


@pytest.mark.parametrize(
    ("declared", "submitted"), [(None, None), ((), ()), (("method-x", "other"), ("a", "method-x", "other"))]
)
def test_a_detector_is_submitted_with_what_it_declares_and_the_generators_of_these_methods(
    tmp_path, declared, submitted
):
    about = {"trained_on": declared, "methods": {"a": "method-x"}, "weights": "ab" * 32}
    never_trained(tmp_path / "runs", model="detector", baseline=False, **about)
    found = collect(tmp_path / "runs", wish(model="detector", loss=None), said())
    assert (found.model.trained_on, found.model.weights, found.is_detector) == (submitted, "ab" * 32, True)
    assert found.seen == (["a"] if declared else [])


def test_a_fitted_baseline_is_submitted_with_the_trainings_that_it_has(tmp_path):
    for test in ABC:
        facts = facts_of(others(test, ABC), kind="fitted", model="floor", baseline=True, standard_generators=ABC)
        write_training(tmp_path / "runs", facts, {test: records_of(IOUS)})
    found = collect(tmp_path / "runs", wish(model="floor", loss=None), said())
    assert (found.loss, found.recipe, found.loss_expression, found.seeds) == ((), None, "fitted", (0,))
    assert (found.is_baseline, found.division, len(found.trainings)) == (True, "open", 3)
    assert (found.claims.same, found.claims.cross) == (None, None)
    assert save(found, tmp_path / "entry.json").about.is_baseline


def made_elsewhere(runs, *, tests=ABC, seeds=(0, 1)):
    for seed in seeds:
        for test in tests:
            facts = facts_of(others(test, ABC), kind="scored", seed=seed, standard_generators=ABC, model="elsewhere")
            facts = identified(replace(facts, model=replace(facts.model, source=None)))
            write_training(runs, facts, {test: records_of([iou + 0.01 * seed for iou in IOUS])})


def test_predictions_made_elsewhere_are_submitted_in_the_open_division(tmp_path):
    made_elsewhere(tmp_path / "runs")
    found = collect(tmp_path / "runs", wish(model="elsewhere", loss=None), said())
    assert (found.division, found.loss_expression, found.recipe, found.pretraining) == ("open", "scored", None, None)
    assert (found.is_scored, found.is_baseline, found.seeds) == (True, False, (0, 1))
    assert {training.environment for training in found.trainings} == {found.model.source} == {None}
    assert found.claims.loo.iou == pytest.approx(0.505) and found.claims.loo.spread > 0
    assert save(found, tmp_path / "entry.json").about.is_scored


def test_predictions_that_lack_a_generator_or_a_training_are_told_how_to_be_scored(tmp_path):
    made_elsewhere(tmp_path, tests="ab", seeds=(0,))
    told = refusal(tmp_path, wish(model="elsewhere", loss=None))
    assert "lacks tests of loo: seed 0 w/o c. Score them: deeploc-bench score PREDICTIONS --suite made" in told
    facts = facts_of((), kind="scored", standard_generators=ABC, model="closed")
    write_training(tmp_path, facts, {test: records_of(IOUS) for test in ABC})
    assert "or score its predictions with --protocol loo" in refusal(tmp_path, wish(model="closed", loss=None))


def test_trainings_on_other_data_are_not_put_together(tmp_path):
    finished(tmp_path, seeds=(0,), other={"fingerprint": "1" * 32})
    finished(tmp_path, seeds=(1,), other={"fingerprint": "2" * 32})
    assert "are of other data of suite 'made'" in refusal(tmp_path, wish())


def test_a_damaged_environment_is_told_of_and_nothing_is_made_up(tmp_path):
    finished(tmp_path)
    file = next(tmp_path.rglob("environment.json"))
    edit(file, lambda text: text.replace(' "precision": "fp32",\n', ""))
    assert "'precision' is missing" in refusal(tmp_path, wish(), StoreError)


def test_a_measured_speed_is_read_of_its_model_alone(tmp_path):
    measured = {"model": "net", "size": 64, "device": "cpu", "threads": 1, "parameters": 3, "flops_per_image": 5}
    measured |= {"peak_memory_mib": 7.5, "latency_ms": 1.5, "images_per_second": 80.0, "pytest_benchmark": {"one": 1}}
    file = tmp_path / "speed.json"
    file.write_text(json.dumps([{**measured, "model": "other"}, measured]))
    assert read_speed(file, "net").images_per_second == 80.0
    with pytest.raises(UsageError, match="unknown model 'third'.* Known: net, other"):
        read_speed(file, "third")
    file.write_text('{"model": "net"}')
    with pytest.raises(UsageError, match="expected a list"):
        read_speed(file, "net")


def test_the_command_tells_of_candidates_writes_one_and_overwrites_nothing(deeploc, tmp_path):
    finished(tmp_path / "runs", source="original")
    finished(tmp_path / "runs", source="edited")
    flags = ["submit", "net+jaccard", "--suite", "made", "--contact", "me", "-o", "entry.json"]
    several = deeploc(*flags)
    assert (several.returncode, "2 candidates to submit; choose one" in several.stderr) == (2, True)
    hash = choices(several.stderr)[0][0]
    done = deeploc(*flags, "--experiment", hash, "--date", "2026-01-31")
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "[entry]" in line)
    assert re.split(r" *\| *", line)[1:4:2] == ["1", "0.505 (0.000 to 1.000)"] and "wrote entry.json" in done.stdout
    content = (tmp_path / "entry.json").read_bytes()
    same = deeploc(*flags, "--experiment", hash, "--date", "2026-01-31")  # as after a kill before it was told
    assert (same.returncode, same.stdout) == (0, done.stdout)
    again = deeploc(*flags, "--experiment", hash)
    assert (tmp_path / "entry.json").read_bytes() == content
    assert (again.returncode, "nothing is overwritten" in again.stderr) == (2, True)
    assert "warning: 'deeploc-bench verify' will refuse it yet: suite 'made' has no manifest" in done.stderr
    outline(tmp_path / "leaderboard", "made", ABC, authentic=False)
    assert deeploc("verify", "entry.json").returncode == 0
    for flag, value, words in (("--date", "2026-02-30", "2026-02-30"), ("--code", "ftp://x", "begins with https://")):
        wrong = deeploc(*flags[:-1], "other.json", "--experiment", hash, flag, value)
        assert (wrong.returncode, words in wrong.stderr, "Traceback" in wrong.stderr) == (2, True, False)
    assert not (tmp_path / "other.json").exists()


def test_refreshing_makes_claims_anew_and_leaves_the_records_as_they_are(deeploc, tmp_path):
    folder = board(tmp_path / "leaderboard", [submission("other", seed=1)])
    values = submission("entry")
    old = {**values, "schema": 1, "claims": {"loo": {"iou": 0.9, "low": 0.1, "high": 1.0}}}
    file = folder / "submissions/synthetic/entry.json"
    file.write_text(json.dumps(old))
    refused = deeploc("verify", file)
    assert f"deeploc-bench submit --refresh {file}" in refused.stdout and refused.returncode == 1
    done = deeploc("submit", "--refresh", file)
    assert done.returncode == 0, done.stderr
    assert "[entry](submissions/synthetic/entry.json)" in done.stdout
    assert json.loads(file.read_bytes()) == json.loads(to_json(submission_of(values)))


def test_what_verify_would_refuse_is_not_refreshed(deeploc, tmp_path):
    folder = board(tmp_path / "leaderboard", [])
    values = submission("entry") | {"schema": 1, "fingerprint": "0" * 32}
    values["trainings"][0]["tests"].popitem()
    file = folder / "submissions/synthetic/entry.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))
    before = file.read_bytes()
    done = deeploc("submit", "--refresh", file)
    assert (done.returncode, "[fingerprint]" in done.stderr, "[cells]" in done.stderr) == (2, True, True)
    assert file.read_bytes() == before and "Traceback" not in done.stderr
    for more in (["net+jaccard"], ["-o", "out.json"], ["--name", "n"], ["--seed", "7"], ["--contact", "me"]):
        both = deeploc("submit", *more, "--refresh", file)
        assert (both.returncode, "takes no MODEL+LOSS and no other flag" in both.stderr) == (2, True)
    file.write_text('{"schema": 3}')
    assert "has schema 3; this version reads 1 to 2" in deeploc("submit", "--refresh", file).stderr


def test_a_neighbour_of_other_images_is_left_out_and_told(deeploc, tmp_path):
    folder = board(tmp_path / "leaderboard", [submission("other", seed=1, images=14)])
    (folder / "suites/synthetic.json").unlink()
    file = folder / "submissions/synthetic/entry.json"
    file.write_text(json.dumps(submission("entry") | {"schema": 1}))
    done = deeploc("submit", "--refresh", file)
    assert done.returncode == 0 and "| 1 " in done.stdout
    assert "1 submissions are left out, refused or tested on other images: other" in done.stderr


@pytest.mark.parametrize(("flags", "words"), [([], "MODEL+LOSS"), (["net+jaccard"], "--contact TEXT")])
def test_what_submit_needs_is_asked_for(deeploc, flags, words):
    done = deeploc("submit", *flags)
    assert (done.returncode, words in done.stderr) == (2, True)


def test_the_preview_stands_among_the_submissions_of_the_leaderboard(deeploc, tmp_path):
    board(tmp_path / "leaderboard", [improved("better", 0.9, seed=1, images=60)], images=60)
    file = tmp_path / "leaderboard/submissions/synthetic/entry.json"
    file.write_text(json.dumps(submission("entry", seed=2, images=60)))
    line = next(line for line in deeploc("submit", "--refresh", file).stdout.splitlines() if "[entry]" in line)
    assert line.split("|")[1].strip() == "2"
