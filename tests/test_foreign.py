"""Files of strangers: what is no regular file, too large, or made to take for ever, is one message, and soon."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import run_deeploc
from deeploc_bench_plugins.described import deeploc_find_suite, patterns, walk
from PIL import Image

from deeploc_bench.contract.errors import DataError, SampleError, StoreError, UsageError
from deeploc_bench.contract.files import read_bytes, to_json
from deeploc_bench.contract.findings import printable
from deeploc_bench.contract.seals import check_seal
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data import decoding, opening
from deeploc_bench.data.decoding import MaskRule, decode
from deeploc_bench.data.folders import paired_samples
from deeploc_bench.data.packs import pack

RGB = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)


def socket_at(path):
    place = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(place)


def linked(target):
    return lambda path: path.symlink_to(target)


NO_FILES = {
    "FIFO": (os.mkfifo, "it is a FIFO; expected a regular file"),
    "socket": (socket_at, "it is a socket; expected a regular file"),
    "endless device": (linked("/dev/zero"), "it is a device; expected a regular file"),
    "folder": (Path.mkdir, "Is a directory"),
    "link to itself": (linked("a.png"), "Too many levels of symbolic links"),
    "link to nowhere": (linked("nowhere"), "No such file"),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, kind):
    make, words = NO_FILES[kind]
    file = tmp_path / "a.png"
    make(file)
    with pytest.raises(OSError, match=words):
        read_bytes(file)
    with pytest.raises(StoreError, match=words):
        check_seal(file)
    with pytest.raises(SampleError, match="a.png") as caught:
        image_of(file)
    assert caught.value.check == ("missing" if kind == "link to nowhere" else "unreadable")


def test_a_folder_called_like_an_image_is_told_of_and_not_passed_over(tmp_path):
    (tmp_path / "a.png").mkdir()
    (one,) = paired_samples(tmp_path, None)
    with pytest.raises(SampleError, match="a.png: Is a directory"):
        decode(one, MaskRule())


def image_of(file):
    return decode(Sample(id="a", source="a", image=file, mask=None), MaskRule()).image


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(width, height):
    """Return a PNG whose header says a size, and which holds no pixel of it."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def tiff(width, height):
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 9}
    fields = b"".join(
        bytes([tag % 256, tag // 256, 4, 0, 1, 0, 0, 0]) + v.to_bytes(4, "little") for tag, v in tags.items()
    )
    return b"II*\0\x08\0\0\0" + len(tags).to_bytes(2, "little") + fields + bytes(4)


def webp(width, height):
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + (22).to_bytes(4, "little") + b"WEBPVP8X" + (10).to_bytes(4, "little") + bytes(4) + size


def jpeg(width, height):
    head = bytes([8]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([1, 1, 0x11, 0])
    return b"\xff\xd8\xff\xc0" + (len(head) + 2).to_bytes(2, "big") + head + b"\xff\xda\0\x02"


@pytest.mark.parametrize("kind", [png, tiff, webp, jpeg])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path, kind):
    file = tmp_path / "bomb.png"
    file.write_bytes(kind(16_000, 16_000))
    with pytest.raises(SampleError) as caught:
        image_of(file)
    assert caught.value.check == "large"
    assert f"{file} has 256000000 pixels; at most 100000000 are read" in str(caught.value)
    assert "set DEEPLOC_MAX_PIXELS=256000000" in str(caught.value)


def test_a_file_longer_than_any_picture_of_so_many_pixels_is_not_looked_into(tmp_path):
    file = tmp_path / "long.png"
    with file.open("wb") as content:
        content.truncate(10**12)
    with pytest.raises(SampleError, match="has 1000000000000 bytes, more than 100000000 pixels take"):
        image_of(file)


@pytest.mark.parametrize("most", ["1999", "2000", "2001"])
def test_the_limit_of_pixels_is_the_variable_s(tmp_path, monkeypatch, most):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setenv("DEEPLOC_MAX_PIXELS", most)
    if int(most) < 2000:
        with pytest.raises(SampleError, match="has 2000 pixels; at most 1999 are read"):
            image_of(tmp_path / "a.png")
    else:
        assert np.array_equal(image_of(tmp_path / "a.png"), RGB)
    assert Image.MAX_IMAGE_PIXELS > 10**7  # Pillow's own limit is as it was


@pytest.mark.parametrize("most", ["many", "-1", "0", "1e9", "9" * 30])
def test_a_limit_that_is_no_number_is_told_and_no_file_blamed(tmp_path, monkeypatch, most):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setenv("DEEPLOC_MAX_PIXELS", most)
    with pytest.raises(UsageError, match=f"DEEPLOC_MAX_PIXELS is '{most}'; expected a whole number"):
        image_of(tmp_path / "a.png")


def test_where_the_limit_is_raised_a_packed_suite_takes_what_it_lacked(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    samples = [Sample(id="a", source="a", image=tmp_path / "a.png", mask=None)]
    counts = []
    for most in ("1000", "1500", "2000", "1000"):
        monkeypatch.setenv("DEEPLOC_MAX_PIXELS", most)
        counts.append(len(pack(samples, inverted=False, folder=tmp_path / "packs", tick=lambda: None)))
    assert counts == [0, 0, 1, 1]


def test_a_type_that_another_program_would_draw_is_not_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(SampleError, match=r"a.png: cannot identify it as a picture"):
        image_of(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "I;16", "CMYK"])
def test_a_picture_read_in_strips_is_the_same(tmp_path, monkeypatch, mode):
    levels = (
        Image.fromarray(RGB[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    )
    levels.save(tmp_path / "a.tif")
    one = Sample(id="a", source="a", image=tmp_path / "a.tif", mask=tmp_path / "a.tif")
    whole = decode(one, MaskRule(above=90))
    monkeypatch.setattr(decoding, "STRIP", 150)
    parts = decode(one, MaskRule(above=90))
    assert np.array_equal(parts.image, whole.image) and np.array_equal(parts.mask, whole.mask)


PEAK = r"""
import re, sys
from pathlib import Path
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.decoding import MaskRule, decode
from deeploc_bench.data.folders import paired_samples
def peak():
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
image = decode(Sample(id="a", source="a", image=Path(sys.argv[1]), mask=None), MaskRule()).image
print(image.nbytes, peak() - before)
"""


@pytest.mark.slow
def test_a_large_picture_takes_less_than_three_times_its_size(tmp_path):
    Image.new("RGB", (6000, 5000), (1, 2, 3)).save(tmp_path / "a.png", compress_level=1)
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path / "a.png"], capture_output=True, text=True, check=True)
    size, peak = map(int, done.stdout.split())
    assert size < peak < 3 * size


EDITED = 'suite = "some"\n[[generator]]\nname = "edited"\nsplit = "test"\nrole = "test-only"\n'
TEMPLATES = 'images = "images/{id}.png"\nmasks = "masks/{id}.png"\n'


def built(tmp_path, text):
    (tmp_path / "suite.toml").write_text(text)
    (spec,) = deeploc_find_suite(str(tmp_path / "suite.toml"))
    return spec.build(tmp_path / "data")


def put(tmp_path, *names):
    for name in names:
        for folder in ("images", "masks"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(RGB).save(tmp_path / "data" / folder / f"{name}.png")


ENDLESS = ["(a+)+$", "((a+)+)$", "((a|aa)+)$", "(.*.*.*.*.*.*.*.*)x$", "(?=(a+)+$)(.)", "((?:a?){30}a{30})$", "(a*)*b"]


@pytest.mark.parametrize("pattern", ENDLESS)
def test_an_expression_that_would_never_end_is_told(tmp_path, monkeypatch, pattern):
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    put(tmp_path, "a" * 200 + "!")
    with pytest.raises(
        DataError,
        match=r"takes longer than 0.1 s of the processor's time on 1 names, such as 'aaa.*without a repeat inside",
    ):
        built(tmp_path, f"source = '{pattern}'\n{EDITED}{TEMPLATES}")


def test_a_template_of_many_stars_in_a_name_ends_too(tmp_path, monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    put(tmp_path, "a" * 200 + "b")
    with pytest.raises(DataError, match="takes longer than 0.1 s"):
        built(tmp_path, EDITED + TEMPLATES.replace("images/{id}", "images/{id}*a*a*a*a*{id}"))


def test_a_usual_expression_is_found_whatever_the_names(tmp_path):
    put(tmp_path, "one-1", "two words-22", "drei-ü-3")
    samples = built(tmp_path, f"source = '^(.*)-[0-9]+$'\n{EDITED}{TEMPLATES}")["test"]
    assert [sample.source for sample in samples] == ["drei-ufc", "one", "two_words"]


def test_links_into_their_own_folder_are_not_followed(tmp_path):
    put(tmp_path, "a")
    for name in ("x", "y", "z"):
        (tmp_path / "data" / name).symlink_to(".")
        (tmp_path / "data/images" / name).symlink_to("../../data")
    assert list(walk.fitting(tmp_path / "data", "/".join(["*"] * 16))) == []
    assert [file.name for file in walk.fitting(tmp_path / "data", "*/*.png")] == ["a.png", "a.png"]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path):
    put(tmp_path, "a")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to("../elsewhere/images")
    assert [*walk.fitting(tmp_path / "data", "*/*.png")] == [tmp_path / "data/images/a.png"]


def test_folders_without_end_are_looked_at_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(walk, "MOST_VISITED", 1000)
    for depth in range(12):
        (tmp_path / f"{depth}").mkdir()
        for link in "ab":
            (tmp_path / f"{depth}/{link}").symlink_to(f"../{depth + 1}")
    with pytest.raises(DataError, match=r"more than 1000 files and folders to look at for '0/\*/.*; name folders"):
        list(walk.fitting(tmp_path, "0/" + "/".join(["*"] * 12)))


DESCRIBED = {
    "a long expression": (f"pair = '({'a' * 600})'\n", "has 602 characters; allowed are at most 500"),
    "a deep expression": (f"pair = '{'(' * 240}a{')' * 240}'\n", None),
    "a huge repeat": ("pair = '(a{9999999999})'\n", "is not a regular expression"),
    "a long pattern": (f"exclude = '{'*' * 600}'\n", "has 600 characters"),
    "a NUL": ('exclude = "a\\u0000"\n', "holds a NUL character"),
    "many generators": (f"{EDITED.partition(chr(10))[2]}{TEMPLATES}" * 70, r"it has 71 \[\[generator\]\]s; at most 64"),
}


@pytest.mark.parametrize("what", DESCRIBED)
def test_what_no_description_needs_is_refused(tmp_path, what):
    put(tmp_path, "a")
    text, told = DESCRIBED[what]
    if told is None:
        assert len(built(tmp_path, EDITED + TEMPLATES + text)["test"]) == 1
    else:
        with pytest.raises(DataError, match=told):
            built(tmp_path, EDITED + TEMPLATES + text)


LISTS = {
    "a NUL": ("l.csv", b"image\nimages/\0.png\n", "is no path: it holds a character that no name"),
    "half a letter": (
        "l.json",
        b'[["images/\\ud800.png", "m.png"]]',
        "is no path: it holds a character that no name",
    ),
    "no pairs": ("l.json", b"[[1, 2]]", "1 with 2 is no pair of paths"),
    "nesting": ("l.json", b"[" * 100_000, "l.json cannot be read: maximum recursion depth"),
    "a device": ("l.txt", None, "l.txt: it is a device; expected a regular file"),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_that_no_program_writes_is_one_message(tmp_path, what):
    name, content, told = LISTS[what]
    put(tmp_path, "a")
    file = tmp_path / "data" / name
    file.symlink_to("/dev/zero") if content is None else file.write_bytes(content)
    with pytest.raises(DataError, match=told):
        built(tmp_path, EDITED + f'lists = "{name}"\n')


def test_a_list_larger_than_is_read_is_refused(tmp_path):
    put(tmp_path, "a")
    with (tmp_path / "data/l.txt").open("wb") as content:
        content.truncate(10**12)
    with pytest.raises(DataError, match=r"l.txt: it is larger than 67108864 bytes"):
        built(tmp_path, EDITED + 'lists = "l.txt"\n')


COMMANDS = {
    "a colour": ("a\x1b[31mb", r"a\x1b[31mb"),
    "a command in a log": ("a\n  ::error::b", r"a\n  ::error::b"),
    "writing turned round": ("a\u202eb", r"a\u202eb"),
    "no letters": ("a\udcffb", r"a\udcffb"),
    "what is meant": ("a · ö\n    b\tc", "a · ö\n    b\tc"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_what_a_stranger_wrote_commands_neither_a_terminal_nor_a_log(what):
    text, expected = COMMANDS[what]
    assert printable(text) == expected


def test_names_of_files_are_printed_in_one_line_and_packed_whatever_they_hold(tmp_path):
    put(tmp_path, "a", "b\x1b[31m\n::error::", os.fsdecode(b"c\xff"))
    (tmp_path / "s.toml").write_text(EDITED + TEMPLATES)
    done = run_deeploc(tmp_path, "data", "check", "s.toml", "--data", "data", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout and "\n::error" not in done.stdout and r"b\x1b[31m\n::error::.png" in done.stdout


def test_a_name_of_no_letters_is_kept_in_json():
    assert to_json({"a": "\udcff"}) == b'{\n "a": "\\\\udcff"\n}\n'


def test_nothing_of_a_header_is_believed_before_its_size(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SampleError), opening.opened(tmp_path / "bomb.png"):
        pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
