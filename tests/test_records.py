"""Records: counting, merging, and the csv that they are kept in."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import count

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.scoring.records import Records, from_csv, mask_hash, merge, to_csv

HEADER = "id,source,tp,fp,fn,tn,tie_manipulated,tie_authentic,pred"
GOOD = ["a,s,1,2,3,4,0,0,0123456789abcdef", "b,s,1,2,3,4,3,4,0123456789abcdef"]


def make(seed, count_of_images, size=(5, 7)):
    """Records of random heatmaps whose levels fall on, below and above bin edges, 0, 0.5 and 1 among them."""
    random = np.random.default_rng(seed)
    heatmaps = (random.integers(0, 513, (count_of_images, *size)) / 512).astype(np.float32)
    heatmaps[random.random(heatmaps.shape) < 0.2] = 0.5
    masks = random.random(heatmaps.shape) < random.random()
    ids = [f"image-{i:03}" for i in range(count_of_images)]
    return count(ids, [f"photo-{i // 2}" for i in range(count_of_images)], heatmaps, masks), heatmaps, masks


def take(records, index):
    return Records(
        ids=tuple(records.ids[i] for i in index),
        sources=tuple(records.sources[i] for i in index),
        counts=records.counts[index],
        preds=tuple(records.preds[i] for i in index),
        histograms=records.histograms[index],
    )


def assert_same(first, second):
    assert (first.ids, first.sources, first.preds) == (second.ids, second.sources, second.preds)
    np.testing.assert_array_equal(first.counts, second.counts)
    np.testing.assert_array_equal(first.histograms, second.histograms)


seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
few = settings(max_examples=60, deadline=None)


@few
@given(seed=seeds, images=st.integers(1, 9), data=st.data())
def test_records_merged_in_any_order_and_split_give_the_same_integers(seed, images, data):
    records, _, _ = make(seed, images)
    order = data.draw(st.permutations(range(images)))
    cuts = sorted(data.draw(st.lists(st.integers(0, images), max_size=4)))
    parts = [take(records, order[start:stop]) for start, stop in zip([0, *cuts], [*cuts, images], strict=True)]
    assert_same(merge(parts), records)


@few
@given(seed=seeds, images=st.integers(0, 9))
def test_records_survive_the_csv(seed, images):
    records, _, _ = make(seed, images)
    assert_same(from_csv(to_csv(records), "test.csv", records.histograms), records)


@few
@given(seed=seeds, images=st.integers(0, 5), size=sizes)
def test_counts_are_never_negative_and_sum_to_the_pixels(seed, images, size):
    records, _, masks = make(seed, images, size)
    assert (records.counts >= 0).all()
    assert records.pixels.tolist() == [size[0] * size[1]] * images
    assert (records.tp + records.fn).tolist() == masks.sum(axis=(1, 2)).tolist()
    assert (records.counts[:, 4] <= records.fn).all()
    assert (records.counts[:, 5] <= records.tn).all()


def test_a_count_that_is_not_its_histograms_sum_is_an_error_that_names_the_line():
    heatmaps, masks = np.array([[[0.2, 0.9]], [[0.7, 0.8]]], np.float32), np.array([[[True, True]], [[True, False]]])
    records = count(["a", "b"], ["s", "s"], heatmaps, masks)
    damaged = to_csv(records).replace("b,s,1,1,0,0,", "b,s,1,1,0,3,")
    assert damaged != to_csv(records)
    with pytest.raises(StoreError, match=r"test.csv, line 3: tp, fp, fn, tn of 'b' are not the sums of its histogram"):
        from_csv(damaged, "test.csv", records.histograms)


@few
@given(seed=seeds, images=st.integers(0, 5), size=sizes)
def test_histograms_hold_the_counts_below_and_above_bin_128(seed, images, size):
    records, _, _ = make(seed, images, size)
    below, above = records.histograms[:, :, :128].sum(axis=2), records.histograms[:, :, 128:].sum(axis=2)
    expected = np.stack([above[:, 1], above[:, 0], below[:, 1], below[:, 0]], axis=1)
    np.testing.assert_array_equal(records.counts[:, :4], expected)


def test_a_heatmap_of_exactly_one_half_is_no_prediction_but_a_tie():
    above = np.nextafter(np.float32(0.5), np.float32(1))
    heatmaps = np.array([[[0.5, 0.5, 0.5, above, above, 0.0]]], np.float32)
    masks = np.array([[[True, True, False, True, False, False]]])
    assert count(["a"], ["s"], heatmaps, masks).counts.tolist() == [[1, 1, 2, 2, 2, 1]]


def test_bins_are_closed_on_the_right_and_zero_falls_in_the_first():
    edges = np.array([0, 1 / 256, 2 / 256, 0.5, 255 / 256, 1], np.float32)
    after = np.nextafter(edges[:-1], np.float32(2))
    heatmaps = np.concatenate([edges, after])[None, None]
    histograms = count(["a"], ["s"], heatmaps, np.ones(heatmaps.shape, bool)).histograms
    assert {bin: int(histograms[0, 1, bin]) for bin in histograms[0, 1].nonzero()[0].tolist()} == {
        0: 3,  # 0, 1/256, and what follows 0
        1: 2,  # 2/256, and what follows 1/256
        2: 1,
        127: 1,
        128: 1,
        254: 1,
        255: 2,
    }


def test_authentic_pixels_come_first_in_the_histograms():
    heatmaps = np.array([[[0.9, 0.1]]], np.float32)
    histograms = count(["a"], ["s"], heatmaps, np.array([[[True, False]]])).histograms
    assert histograms.dtype == np.int32
    assert np.argwhere(histograms[0]).tolist() == [[0, 25], [1, 230]]


def test_the_mask_hash_is_blake2b_of_the_shape_and_the_packed_bits():
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0]], bool)
    expected = hashlib.blake2b(b"3x4:" + bytes([0b10110001, 0b10000000]), digest_size=8).hexdigest()
    assert mask_hash(mask) == expected == "7181c47213b5a5df"


def test_the_mask_hash_tells_shapes_apart_and_does_not_depend_on_memory_order():
    mask = np.array([[1, 0, 1], [0, 1, 1]], bool)
    assert mask_hash(mask) != mask_hash(mask.reshape(3, 2))
    assert mask_hash(mask.T) == mask_hash(np.ascontiguousarray(mask.T))


def test_records_name_the_hash_of_each_predicted_mask():
    records, heatmaps, _ = make(0, 3)
    assert records.preds == tuple(mask_hash(heatmap > 0.5) for heatmap in heatmaps)


def test_an_image_in_two_parts_is_an_error_that_names_it():
    records, _, _ = make(0, 3)
    with pytest.raises(StoreError, match="image 'image-001' appears twice in the records"):
        merge([records, take(records, [1])])


def test_nothing_merged_is_no_image():
    assert len(merge([])) == 0


def test_histograms_missing_from_one_part_are_missing_from_the_whole():
    records, _, _ = make(0, 2)
    bare = from_csv(to_csv(take(records, [1])), "test.csv")
    assert bare.histograms is None
    assert merge([take(records, [0]), bare]).histograms is None


def test_the_csv_is_the_documented_one():
    heatmaps, masks = np.full((1, 2, 2), 0.75, np.float32), np.array([[[True, False], [False, False]]])
    text = to_csv(count(["a-0"], ["a"], heatmaps, masks))
    assert text == f"{HEADER}\na-0,a,1,3,0,0,0,0,{mask_hash(np.ones((2, 2), bool))}\n"


def test_records_out_of_order_are_not_written():
    records, _, _ = make(0, 2)
    with pytest.raises(StoreError, match="id 'image-000' follows 'image-001'; ids must be sorted and unique"):
        to_csv(take(records, [1, 0]))


def test_a_good_csv_is_read():
    records = from_csv("\n".join([HEADER, *GOOD, ""]), "test.csv")
    assert records.ids == ("a", "b")
    assert records.counts.tolist() == [[1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 3, 4]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c,s,1,2,3,4,0,0", "8 fields; expected 9"),
        ("c,s,1,2,3,4,0,0,0123456789abcdef,", "10 fields; expected 9"),
        ("", "0 fields; expected 9"),
        ("c,s,-1,2,3,4,0,0,0123456789abcdef", "tp is '-1'; expected a whole number of pixels, 0 or more"),
        ("c,s,1,2.0,3,4,0,0,0123456789abcdef", "fp is '2.0'; expected a whole number"),
        ("c,s,1,2,3e3,4,0,0,0123456789abcdef", "fn is '3e3'; expected a whole number"),
        ("c,s,1,2,3, 4,0,0,0123456789abcdef", "tn is ' 4'; expected a whole number"),
        ("c,s,1,2,3,٤,0,0,0123456789abcdef", "tn is '٤'; expected a whole number"),
        ("c,s,1,2,3,nan,0,0,0123456789abcdef", "tn is 'nan'; expected a whole number"),
        ("c,s,1,2,3,99999999999999999999,0,0,0123456789abcdef", "expected a whole number"),
        ("c,s,1,2,3,4,,0,0123456789abcdef", "tie_manipulated is ''; expected a whole number"),
        ("c,s,1,2,3,4,4,0,0123456789abcdef", "tie_manipulated is 4; expected at most fn, 3"),
        ("c,s,1,2,3,4,0,5,0123456789abcdef", "tie_authentic is 5; expected at most tn, 4"),
        ("c,s,1,2,3,4,0,0,0123456789abcde", "pred is '0123456789abcde'; expected 16 hex digits"),
        ("c,s,1,2,3,4,0,0,0123456789ABCDEF", "pred is '0123456789ABCDEF'; expected 16 hex digits"),
        ("b,s,1,2,3,4,0,0,0123456789abcdef", "id 'b' follows 'b'; ids must be sorted and unique"),
        ("aa,s,1,2,3,4,0,0,0123456789abcdef", "id 'aa' follows 'b'; ids must be sorted and unique"),
        (",s,1,2,3,4,0,0,0123456789abcdef", "id is ''; expected letters, digits"),
        ("c,,1,2,3,4,0,0,0123456789abcdef", "source is ''; expected letters, digits"),
        ('"c,s,1,2,3,4,0,0,0123456789abcdef', "id is '\"c'; expected letters, digits"),
        ("c" * 200_000, "field larger than field limit"),
    ],
)
def test_a_damaged_line_is_an_error_that_names_file_and_line(line, message):
    text = "\n".join([HEADER, *GOOD, line, "z,s,1,2,3,4,0,0,0123456789abcdef", ""])
    with pytest.raises(StoreError) as raised:
        from_csv(text, "runs/test-lama.csv")
    assert str(raised.value).startswith("runs/test-lama.csv, line 4: ")
    assert message in str(raised.value)


@pytest.mark.parametrize("text", ["", "\n", "id,source\n", HEADER.replace("tp,fp", "fp,tp") + "\n", GOOD[0]])
def test_another_header_is_an_error_that_says_the_right_one(text):
    with pytest.raises(StoreError, match=f"^test.csv, line 1: the header is .*; expected '{HEADER}'$"):
        from_csv(text, "test.csv")


def test_histograms_of_other_images_are_refused():
    records, _, _ = make(0, 3)
    with pytest.raises(StoreError, match=r"test.csv has 3 images but its histograms have shape \(2, 2, 256\)"):
        from_csv(to_csv(records), "test.csv", records.histograms[:2])
