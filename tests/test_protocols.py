"""Protocols are rules from generators to cells; a matched budget is drawn once for everybody."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

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


def positions(subset):
    return [part.tolist() for _, part in subset.packs]


def test_the_matched_budget_of_equal_ids_is_the_draw_that_it_has_always_been(small_pack):
    assert positions(matched([small_pack(9, seed=seed) for seed in range(3)])) == [[3, 4, 7], [0, 2, 8], [1, 5, 6]]


def renamed(pack, prefix):
    return replace(pack, entries=tuple(structs.replace(entry, id=f"{prefix}-{entry.id}") for entry in pack.entries))


def test_the_matched_budget_of_generators_that_share_no_id_is_the_draw_that_it_has_always_been(small_pack):
    subset = matched([renamed(small_pack(count), name) for name, count in (("a", 9), ("b", 5), ("c", 7))])
    assert positions(subset) == [[2, 7], [1, 3], [6]]


def ids_of(subset):
    return [[pack.ids[position] for position in part] for pack, part in subset.packs]


def matched_of(whole, *positions):
    """Return the ids dealt to packs of some of the samples of a whole one, none of them twice and all of its pack."""
    packs = [whole.take(sorted(one)) for one in positions]
    dealt = ids_of(matched(packs))
    assert all({*ids} <= {*pack.ids} for ids, pack in zip(dealt, packs, strict=True))
    assert len({id for ids in dealt for id in ids}) == sum(map(len, dealt)) == min(map(len, packs))
    return dealt


def test_the_matched_budget_is_drawn_from_the_ids_that_all_have_where_some_lack_a_few(small_pack):
    dealt = matched_of(small_pack(12), range(12), range(11), [0, 2, 3, 5, 7, 8])
    assert [len(ids) for ids in dealt] == [2, 2, 2]
    assert {id for ids in dealt for id in ids} == {f"image-{i:03}" for i in (0, 2, 3, 5, 7, 8)}


def test_the_matched_budget_draws_all_common_ids_and_then_each_generators_own_where_they_do_not_suffice(small_pack):
    dealt = matched_of(small_pack(12), [0, 1, 2, 3, 4, 5, 6], [0, 1, 3, 4, 7, 8, 9], [0, 1, 5, 6, 7, 10, 11])
    assert [len(ids) for ids in dealt] == [3, 2, 2]
    assert {"image-000", "image-001"} < {id for ids in dealt for id in ids}


def test_the_matched_budget_draws_no_id_twice_where_only_some_generators_share_them(small_pack):
    dealt = matched_of(small_pack(60), range(30), range(30), range(30, 60))
    assert [len(ids) for ids in dealt] == [10, 10, 10]


def test_the_matched_budget_is_stratified_where_ids_differ(small_pack):
    subset = matched([small_pack(9), small_pack(5), small_pack(7)])
    assert [len(part) for _, part in subset.packs] == [2, 2, 1]
