"""A file of another program is read as what it says, or refused with the reason; it is never guessed at."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from deeploc_bench.training.heatmaps import BELOW, HALF, heatmap_of, is_unscaled, levels_of, read_levels

RAMP = np.linspace(0, 1, 12).reshape(3, 4)
MASK = RAMP > 0.6


def png(array, mode=None, suffix="png", **options):
    def save(folder):
        path = folder / f"a.{suffix}"
        picture = Image.fromarray(array)
        (picture.convert(mode) if mode else picture).save(path, **options)
        return path

    return save


def npy(array):
    def save(folder):
        np.save(folder / "a.npy", array)
        return folder / "a.npy"

    return save


def npz(**arrays):
    def save(folder):
        np.savez(folder / "a.npz", **arrays)
        return folder / "a.npz"

    return save


def raw(content, name="a.npy"):
    def save(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return save


def header(shape, kind="<f4", data=b"", version=b"\1\0"):
    """Return a .npy file whose header says what it likes."""
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version == b"\1\0" else 4, "little") + text + data


def zipped(content, kind=zipfile.ZIP_DEFLATED, names=("heatmap.npy",)):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name in names:
            archive.writestr(name, content)
    return stream.getvalue()


def flagged(content, flag, method=None):
    """Return an archive whose directory says of its member that it has a flag, or another method."""
    changed, start = bytearray(content), content.index(b"PK\1\2")
    changed[start + 8] |= flag
    changed[start + 10] = changed[start + 10] if method is None else method
    return bytes(changed)


def bytes_of(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def turned(array):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    return png(array, exif=exif)


BYTES, SHORTS = (255 * RAMP).round().astype(np.uint8), (65535 * RAMP).round().astype(np.uint16)
READ = {
    "8-bit PNG": (png(BYTES), BYTES / 255),
    "16-bit PNG": (png(SHORTS), SHORTS / 65535),
    "1-bit PNG": (png(MASK), MASK),
    "gray saved as RGB": (png(np.stack([BYTES] * 3, axis=2)), BYTES / 255),
    "gray with an alpha channel that hides nothing": (png(BYTES, "LA"), BYTES / 255),
    "TIFF of floats": (png(RAMP.astype(np.float32), suffix="tif"), RAMP),
    "TIFF of 16 bits": (png(SHORTS, suffix="TIFF"), SHORTS / 65535),
    "PNG with an EXIF orientation": (turned(np.rot90(BYTES)), BYTES / 255),
    "floats of 16 bits": (npy(RAMP.astype(np.float16)), RAMP.astype(np.float16)),
    "floats of 64 bits": (npy(RAMP), RAMP),
    "big-endian floats": (npy(RAMP.astype(">f4")), RAMP),
    "big-endian integers": (npy(SHORTS.astype(">u2")), SHORTS / 65535),
    "bool": (npy(MASK), MASK),
    "int64 of 0 and 1": (npy(MASK.astype(np.int64)), MASK),
    "a channel first": (npy(RAMP[None]), RAMP),
    "a channel last": (npy(RAMP[..., None]), RAMP),
    "a batch of one": (npy(RAMP[None, None]), RAMP),
    "in Fortran's order": (npy(np.asfortranarray(RAMP)), RAMP),
    "a hair outside": (npy(RAMP * 1.0008 - 0.0004), (RAMP * 1.0008 - 0.0004).clip(0, 1)),
    "NPZ of one array": (npz(heatmap=RAMP), RAMP),
}


@pytest.mark.parametrize("kind", READ)
def test_it_is_read_as_what_it_says(kind, tmp_path):
    save, expected = READ[kind]
    found = heatmap_of(read_levels(save(tmp_path)))
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6
    assert ((found > 0.5) == (expected > 0.5)).all()


REFUSED = {
    "logits": (npy(8 * RAMP - 4), "values from -4 to 4; expected heatmaps in [0, 1]. Logits? Apply the sigmoid"),
    "percentages": (npy(100 * RAMP), "values from 0 to 100; expected heatmaps in [0, 1]. Percentages? Divide by 100"),
    "8-bit levels as floats": (npy(255.0 * MASK), "Divide by 255, or save as uint8"),
    "overshot": (npy(1.1 * RAMP - 0.05), "values from -0.05 to 1.05"),
    "NaN": (npy(np.where(MASK, np.nan, RAMP)), "5 of 12 values are NaN or infinite"),
    "infinite": (npy(np.where(MASK, np.inf, RAMP)), "5 of 12 values are NaN or infinite"),
    "softmax first": (npy(np.stack([1 - RAMP, RAMP])), "Keep the probability of 'manipulated'"),
    "softmax last": (npy(np.stack([1 - RAMP, RAMP], axis=2)), "Keep the probability of 'manipulated'"),
    "three channels": (npy(np.zeros((4, 4, 3))), "Keep the heatmap that it was made of"),
    "a stack": (npy(np.zeros((9, 4, 4))), "shape (9, 4, 4); expected (H, W)"),
    "a line": (npy(np.zeros(12)), "shape (12,); expected (H, W)"),
    "of no size": (npy(np.zeros((0, 4))), "expected (H, W)"),
    "classes": (npy(np.arange(12).reshape(3, 4)), "int64 from 0 to 11; expected bool"),
    "complex": (npy(RAMP.astype(complex)), "complex128; expected bool"),
    "pickled in NPY": (npy(np.array([{}, {}], dtype=object)), "pickled objects are never loaded"),
    "a pickle": (raw(pickle.dumps(RAMP)), "pickled objects are never loaded"),
    "an empty NPY": (raw(b""), "the file is empty"),
    "a truncated NPY": (raw(bytes_of(RAMP)[:-8]), "it ends before its array does"),
    "an NPY that ends in its header": (raw(bytes_of(RAMP)[:40]), "it ends before its array does"),
    "an NPY that promises too much": (raw(bytes_of(RAMP).replace(b"(3, 4)", b"(3,4000000)")), "it ends before"),
    "an NPY of more pixels than are read": (
        raw(header("(20000, 20000)", data=b"x")),
        "it has 400000000 pixels; at most",
    ),
    "an NPY of more than can be counted": (raw(header(f"({10**30}, {10**30})")), "pixels; at most 100000000 are read"),
    "a shape below nothing": (raw(header("(-4, -4)", data=bytes(64))), "its header is damaged: shape (-4, -4)"),
    "a nested header": (raw(b"\x93NUMPY\1\0\x88\x13" + b"(" * 5000), "it ends before its array does"),
    "a header of minus signs": (raw(header("-" * 3900 + "1")), "or is damaged"),
    "a header longer than any": (raw(header("(3, 4)" + " " * 10**6, version=b"\2\0")), "it ends before its array does"),
    "a version to come": (raw(b"\x93NUMPY\x09\0"), "it ends before its array does, or is damaged"),
    "letters": (npy(np.full((3, 4), "x")), "an array of <U1; expected numbers"),
    "a structure": (npy(np.zeros((3, 4), "f4,f4")), "expected numbers"),
    "days": (npy(np.zeros((3, 4), "M8[D]")), "expected numbers"),
    "text called NPY": (raw(b"hello"), "it is no array that np.save wrote"),
    "an NPZ that unpacks to more than is read": (
        raw(zipped(header("(20000, 20000)", "|b1", bytes(10**6))), "a.npz"),
        "it has 400000000 pixels; at most 100000000 are read",
    ),
    "an encrypted NPZ": (raw(flagged(zipped(bytes_of(RAMP)), 1), "a.npz"), "it is encrypted"),
    "an NPZ of another method": (
        raw(zipped(bytes_of(RAMP), zipfile.ZIP_LZMA), "a.npz"),
        "np.savez_compressed does not",
    ),
    "an NPZ of an unknown method": (
        raw(flagged(zipped(bytes_of(RAMP)), 0, 99), "a.npz"),
        "np.savez_compressed does not",
    ),
    "two of one name": (raw(zipped(bytes_of(RAMP), names=["a.npy", "a.npy"]), "a.npz"), "it holds 2 arrays (a)"),
    "no array in an NPZ": (raw(zipped(b"hello"), "a.npz"), "it is no array that np.save wrote"),
    "nothing in an NPZ": (raw(zipped(b""), "a.npz"), "it is no array that np.save wrote"),
    "a truncated NPZ": (raw(b"PK\x03\x04 and no more", "a.npz"), "only the beginning of one"),
    "several arrays": (npz(logits=RAMP, heatmap=RAMP), "it holds 2 arrays (logits, heatmap); expected one"),
    "no array": (npz(), "it holds 0 arrays"),
    "a palette": (png(BYTES, "P"), "a palette picture"),
    "an overlay": (png(np.stack([BYTES, BYTES, 0 * BYTES], axis=2)), "a picture in colour"),
    "a see-through mask": (png(np.dstack([BYTES] * 4)), "see-through"),
    "CMYK": (png(BYTES, "CMYK", "tif"), "mode CMYK"),
    "several pictures": (
        png(BYTES, suffix="tif", save_all=True, append_images=[Image.fromarray(BYTES)]),
        "it holds 2 pictures",
    ),
    "no picture": (raw(b"no picture", "a.png"), "cannot identify"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_with_the_reason(kind, tmp_path):
    save, words = REFUSED[kind]
    with pytest.raises(Exception) as caught:  # noqa: PT011
        heatmap_of(read_levels(save(tmp_path)))
    assert words in str(caught.value)


def test_a_jpeg_that_is_called_png_is_refused(tmp_path):
    Image.fromarray(BYTES).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(ValueError, match="it is JPEG inside; expected PNG or TIFF"):
        read_levels(tmp_path / "a.png")


def test_pickles_are_not_even_looked_into(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="never loaded"):
        read_levels(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


def test_what_is_above_a_half_in_64_bits_stays_above_it_in_32():
    around = np.array([[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)]])
    found = levels_of(around)
    assert (found > HALF).tolist() == [[False, False, True]] and found[0, :2].tolist() == [BELOW, 0.5]


def test_levels_of_0_and_1_are_told_where_full_scale_is_more():
    assert [is_unscaled(levels_of(MASK.astype(kind))) for kind in (np.uint8, np.uint16, np.int64, bool)] == [
        True,
        True,
        False,
        False,
    ]
    assert not is_unscaled(BYTES) and not is_unscaled(0 * BYTES)
