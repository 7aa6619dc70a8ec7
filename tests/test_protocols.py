"""Protocols are rules from generators to cells; a matched budget is drawn once for everybody."""

from __future__ import annotations

from deeploc_bench.data.batches import as_packs
from deeploc_bench.plan.protocols import cross, loo, matched, same


def test_protocols_of_four_generators_need_eight_trainings():
    generators = ("a", "b", "c", "d")
    cells = [*same(generators, ()), *loo(generators, ()), *cross(generators, ())]
    assert len(cells) == 4 + 4 + 16
    assert len({cell.train_generators for cell in cells}) == 8
    assert all(cell.test_generator not in cell.train_generators for cell in loo(generators, ()))


def test_test_only_generators_are_tested_by_every_training_and_never_trained_on():
    cells = loo(("a", "b"), ("t",))
    assert [(cell.train_generators, cell.test_generator) for cell in cells] == [
        *[(("b",), "a"), (("b",), "t")],
        *[(("a",), "b"), (("a",), "t")],
    ]


def test_the_matched_budget_draws_each_shared_id_once_and_deals_evenly(small_pack):
    packs = [small_pack(9, seed=seed) for seed in range(3)]
    subset = matched(packs)
    assert sorted(int(i) for _, part in subset.packs for i in part) == list(range(9))
    assert [len(part) for _, part in subset.packs] == [3, 3, 3]
    assert sum(len(part) for part in as_packs(subset)) == 9


def test_the_matched_budget_is_stratified_where_ids_differ(small_pack):
    subset = matched([small_pack(9), small_pack(5), small_pack(7)])
    assert [len(part) for _, part in subset.packs] == [2, 2, 1]
