"""Each part of the harness that a result hangs on is broken once, in a copy: a fast test must fail for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from warm import forks

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "deeploc_bench"
RESUMED = "test_fit.py::test_a_training_resumed_after_any_epoch_goes_on_as_if_never_stopped"
STOPPED = "test_fit.py::test_a_fit_that_was_stopped_ends_in_the_same_files"
# what is broken: file, what stands there, what takes its place, and the test that must fail
MUTANTS = {
    "the optimizer's state is not restored": (
        "training/fit.py",
        'self._load_optimizer(_below(tensors, "optimizer."))',
        "pass",
        RESUMED,
    ),
    "the optimizer's state is not kept": (
        "training/fit.py",
        'self.plain_optimizer.state_dict()["state"].items()',
        "()",
        STOPPED,
    ),
    "the weights are not restored": (
        "training/fit.py",
        'self.module.load_state_dict(_below(tensors, "model."))',
        "pass",
        RESUMED,
    ),
    "the best weights are the last": (
        "training/fit.py",
        '_below(tensors, "best.")',
        '_below(tensors, "model.")',
        RESUMED,
    ),
    "the best weights are not copied": (
        "training/fit.py",
        "best = _copied(run.module.state_dict())",
        "best = run.module.state_dict()",
        "test_fit.py::test_the_model_that_is_kept_is_that_of_the_best_epoch",
    ),
    "the last epoch is the best": (
        "training/fit.py",
        "finished.valid_iou > max(",
        "finished.valid_iou >= min(",
        "test_fit.py::test_the_model_that_is_kept_is_that_of_the_best_epoch",
    ),
    "the scaler is not restored": (
        "training/fit.py",
        "self.accelerator.scaler.load_state_dict(dict(state.scaler))",
        "pass",
        "test_fit.py::test_the_scale_of_a_loss_scaler_goes_on",
    ),
    "an epoch's seed is random": (
        "training/fit.py",
        "set_seed(_mixed(self.training.seed, epoch) + ranks.rank())",
        "set_seed(time.time_ns() % 2**31)",
        RESUMED,
    ),
    "each epoch has one seed": (
        "training/fit.py",
        "SeedSequence([seed, epoch])",
        "SeedSequence([seed, 0])",
        "test_fit.py::test_torch_draws_anew_in_each_epoch_and_seed",
    ),
    "the first weights have one seed": (
        "training/fit.py",
        "set_seed(training.seed)",
        "set_seed(0)",
        "test_fit.py::test_seeds_differ_from_their_first_weights_on",
    ),
    "the order is reversed": (
        "training/fit.py",
        ".permutation(len(self.training.train))",
        ".permutation(len(self.training.train))[::-1]",
        "test_fit.py::test_the_order_of_the_samples_is_drawn_from_seed_and_epoch_alone",
    ),
    "the order is that of the first epoch": (
        "training/fit.py",
        "default_rng([self.training.seed, epoch, 0])",
        "default_rng([self.training.seed, 0, 0])",
        "test_fit.py::test_the_order_of_the_samples_is_drawn_from_seed_and_epoch_alone",
    ),
    "the lr is halved": (
        "training/fit.py",
        "lr = self.recipe.lr * (",
        "lr = self.recipe.lr / 2 * (",
        "test_fit.py::test_an_epoch_tells_the_lr_of_its_last_step",
    ),
    "the lr begins anew": (
        "training/fit.py",
        "(epoch * len(batches) + number) / (",
        "number / (",
        "test_fit.py::test_an_epoch_tells_the_lr_of_its_last_step",
    ),
    "the lr does not reach the optimizer": (
        "training/fit.py",
        'group["lr"] = lr',
        "pass",
        "test_fit.py::test_the_lr_reaches_each_parameter",
    ),
    "buffers are not kept": (
        "training/fit.py",
        "for name, tensor in self.module.state_dict().items()}",
        "for name, tensor in self.module.named_parameters()}",
        RESUMED,
    ),
    "the epochs are counted from the first": ("training/fit.py", "range(len(epochs), last)", "range(last)", STOPPED),
    "an epoch is left out": ("training/fit.py", "range(len(epochs), last)", "range(len(epochs) + 1, last)", STOPPED),
    "validation is on what is trained on": (
        "training/fit.py",
        "as_packs(training.valid)",
        "as_packs(training.train)",
        "test_fit.py::test_an_epoch_is_validated_on_the_validation_split",
    ),
    "the augmentation is random": (
        "training/fit.py",
        "default_rng([*seed, 1])",
        "default_rng()",
        RESUMED,
    ),
    "crops are random": (
        "data/batches.py",
        "random = np.random.default_rng(seed)",
        "random = np.random.default_rng()",
        "test_batches.py::test_training_batches_have_the_training_size_and_depend_on_the_seed_alone",
    ),
    "masks are not mirrored": (
        "data/augment.py",
        "masks.flip(-1)",
        "masks",
        "test_augment.py::test_only_the_chosen_images_are_blurred_or_mirrored",
    ),
    "a blur is narrower": (
        "data/augment.py",
        "(3 * sigmas + 0.5)",
        "(2 * sigmas + 0.5)",
        "test_augment.py::test_blur_equals_scipy_for_each_image_of_a_batch",
    ),
    "a blur has another border": (
        "data/augment.py",
        'mode="reflect"',
        'mode="replicate"',
        "test_augment.py::test_blur_equals_scipy_for_each_image_of_a_batch",
    ),
    "one half is manipulated": (
        "training/evaluate.py",
        "(heatmaps * 256).ceil_().to(torch.int16).sub_(1)",
        "(heatmaps * 256).to(torch.int16)",
        "test_evaluate.py",
    ),
    "tp and fp change places": (
        "training/evaluate.py",
        "tp, fp, fn, tn = above[:, 1], above[:, 0]",
        "fp, tp, fn, tn = above[:, 1], above[:, 0]",
        "test_evaluation.py::test_records_have_the_columns_of_the_definition",
    ),
    "heatmaps are resized to the nearest": (
        "training/evaluate.py",
        'mode="bilinear"',
        'mode="nearest"',
        "test_evaluation.py::test_heatmaps_of_another_size_are_resized_bilinearly_and_not_to_the_nearest",
    ),
    "a model is tested as in training": (
        "training/evaluate.py",
        "localizer.module.eval()",
        "localizer.module.train()",
        "test_evaluation.py::test_a_model_is_tested_as_in_use_and_not_as_in_training",
    ),
    "the last test batch is left out": (
        "data/batches.py",
        "range(start, end, size)",
        "range(start, end - size + 1, size)",
        "test_evaluation.py::test_every_image_is_tested_once_in_order_of_its_id_whatever_the_batches",
    ),
    "mask bits are packed in another order": (
        "data/entries.py",
        "np.packbits(mask)",
        'np.packbits(mask, bitorder="little")',
        "test_packs.py::test_files_are_packed_once_and_read_back_pixel_for_pixel",
    ),
    "packed masks are not inverted": (
        "data/packs.py",
        "MaskRule(inverted=inverted,",
        "MaskRule(inverted=False,",
        "test_packs.py::test_inverted_masks_are_turned_round",
    ),
    "packs are not checked": (
        "data/packs.py",
        "return all(pool.map(is_whole, range(len(found))))",
        "return True",
        "test_packs.py::test_a_damaged_pack_is_made_again",
    ),
    "checksums are not checked": (
        "contract/seals.py",
        "if checksum(*parts) !=",
        "if False and",
        "test_store.py::test_any_flipped_bit_and_any_cut_is_one_message_with_its_file",
    ),
    "the identity is not checked": (
        "plan/store.py",
        "if facts.identity != identity_of(facts):",
        "if False:",
        "test_store.py::test_what_a_hand_has_edited_is_read_strictly",
    ),
    "records of other data are read": (
        "plan/store.py",
        "if state.data != data:",
        "if False:",
        "test_store.py::test_records_of_other_data_are_none",
    ),
    "claims are not checked": (
        "leaderboard/checks.py",
        "def check_claims(case: Case, claims: Claims) -> Findings:\n",
        "def check_claims(case: Case, claims: Claims) -> Findings:\n    return\n",
        "test_verify.py::test_what_is_tampered_with_is_refused_by_its_check",
    ),
    "mask areas are not checked": (
        "leaderboard/data_checks.py",
        "def check_areas(case: Case) -> Findings:\n",
        "def check_areas(case: Case) -> Findings:\n    return\n",
        "test_verify.py::test_what_is_tampered_with_is_refused_by_its_check",
    ),
}


@pytest.fixture(scope="module")
def tested():
    """Return a function that runs tests with the package of a folder, and returns their exit code and output."""
    with forks() as run:

        def tested(folder, *tests):
            flags = ["-n", "0", "-x", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", f"-c={ROOT}/pyproject.toml"]
            flags += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of plugins that the server has imported
            arguments = [*flags, f"--basetemp={folder}/pytest", *(str(TESTS / test) for test in tests)]
            code = f"import sys, pytest\nsys.path.insert(0, {str(folder)!r})\nsys.exit(int(pytest.main({arguments})))"
            return run(folder, code)

        yield tested


@pytest.mark.slow
def test_an_unbroken_copy_is_what_is_tested_and_passes(tested, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "deeploc_bench")
    (tmp_path / "test_place.py").write_text(
        f"import deeploc_bench\n\ndef test_place():\n    assert deeploc_bench.__file__.startswith({str(tmp_path)!r})\n"
    )
    code, said = tested(tmp_path, tmp_path / "test_place.py", *sorted({test for *_, test in MUTANTS.values()}))
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.parametrize("what", MUTANTS)
def test_a_fast_test_fails_where(tested, what, tmp_path):
    name, old, new, test = MUTANTS[what]
    file = shutil.copytree(PACKAGE, tmp_path / "deeploc_bench") / name
    text = file.read_text()
    assert text.count(old) == 1, f"{name} holds {old!r} {text.count(old)} times; write this mutant anew"
    file.write_text(text.replace(old, new))
    code, said = tested(tmp_path, test)
    assert code == 1 and "\nFAILED " in said, f"{test} passes although {what}:\n{said}"
