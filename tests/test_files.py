"""Files are read strictly, with messages that a person can act on, and written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from deeploc_bench.contract.errors import DataError, RecipeError, StoreError
from deeploc_bench.contract.files import convert, digest, parse_json, read_json, read_toml, to_json, write

Word = Annotated[str, Meta(pattern=r"\A[a-z]+\Z", description="lower-case letters")]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Word
    size: Annotated[int, Meta(ge=32)] = 32


class Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: str
    schema: int = 1
    kind: Literal["crop", "resize"] = "crop"
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    flip: bool = False
    note: Word | None = None
    parts: tuple[Part, ...] = ()
    sizes: Mapping[Word, Annotated[int, Meta(ge=1)]] = {}
    folders: Mapping[Literal["train", "test"], str] = {}
    named: Mapping[str, Part] = {}


WRONG = {
    "missing": ({"title": None}, "the key 'title' is missing"),
    "unknown": ({"titel": "x"}, "unknown key 'titel'. Did you mean 'title'? Known: flip, folders, kind, named, note,"),
    "unknown in a list": ({"parts": [{"name": "a"}, {"nam": "b"}]}, "key 'parts[1]': unknown key 'nam'. Did you mean"),
    "unknown in a table": ({"named": {"k": {"nam": "b"}}}, "key 'named[...]': unknown key 'nam'. Did you mean 'name'?"),
    "missing in a list": ({"parts": [{"size": 64}]}, "key 'parts[0]': the key 'name' is missing"),
    "text for a number": ({"share": "half"}, "key 'share' is 'half'; expected a number"),
    "number for text": ({"title": 3}, "key 'title' is 3; expected text"),
    "whole for a truth": ({"flip": 1}, "key 'flip' is 1; expected true or false"),
    "too small": ({"parts": [{"name": "a", "size": 31}]}, "key 'parts[0].size' is 31; expected a whole number >= 32"),
    "a half": ({"parts": [{"name": "a", "size": 32.5}]}, "key 'parts[0].size' is 32.5; expected a whole number"),
    "too large": ({"share": 1.5}, "key 'share' is 1.5; expected a number <= 1.0"),
    "not among": ({"kind": "Crop"}, "key 'kind' is 'Crop'; expected one of crop, resize"),
    "a described text": ({"note": "A"}, "key 'note' is 'A'; expected lower-case letters"),
    "a described text of another type": ({"note": 3}, "key 'note' is 3; expected lower-case letters"),
    "a list for text": ({"title": ["x"]}, "key 'title' is a list; expected text"),
    "a table for a list": ({"parts": {"name": "a"}}, "key 'parts' is a table of keys; expected a list"),
    "a value of a table": ({"sizes": {"a": 1, "b": 0}}, "key 'sizes[...]': expected a whole number >= 1"),
    "a value in a table's table": ({"named": {"k": {"name": "A"}}}, "key 'named[...].name': expected lower-case"),
    "a key of a table": ({"sizes": {"A B": 1}}, "a key of 'sizes': expected lower-case letters"),
    "a chosen key of a table": ({"folders": {"val": "v"}}, "a key of 'folders' is 'val'; expected one of test, train"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_value_is_told_with_file_key_what_came_and_what_is_allowed(what, tmp_path):
    changes, told = WRONG[what]
    file = tmp_path / "whole.json"
    file.write_text(json.dumps({key: value for key, value in ({"title": "x"} | changes).items() if value is not None}))
    with pytest.raises(StoreError) as caught:
        read_json(file, Whole, "thing", StoreError)
    assert str(caught.value).startswith(f"thing {file}: {told}")
    assert caught.value.check == "schema" and "$" not in str(caught.value) and "`" not in str(caught.value)


@pytest.mark.parametrize(("value", "shown"), [([1], "a list"), (3, "3"), (True, "True"), ("x", "'x'")])
def test_what_is_no_table_at_all_is_told_without_a_key(value, shown):
    with pytest.raises(StoreError, match=f"^thing: it is {shown}; expected a table of keys$"):
        convert(value, Whole, "thing", StoreError)


def test_a_long_value_is_cut_short():
    with pytest.raises(StoreError) as caught:
        convert({"title": "x", "kind": "y" * 10_000}, Whole, "thing", StoreError)
    assert len(str(caught.value)) < 200


DAMAGED = {
    "a key twice": (b'{"title": "x", "title": "y"}', "duplicate-key", "key 'title' appears twice"),
    "a key twice, deep": (b'{"parts": [{"name": "a", "name": "a"}]}', "duplicate-key", "key 'name' appears twice"),
    "NaN": (b'{"title": "x", "share": NaN}', "nan", "NaN is not a number; an undefined score is null"),
    "infinity": (b'{"title": "x", "share": -Infinity}', "nan", "-Infinity is not a number"),
    "an overflow": (b'{"title": "x", "share": 1e999}', "nan", "1e999 is not a number"),
    "a huge whole number": (b'{"title": "x", "share": ' + b"9" * 5000 + b"}", "json", "is not JSON"),
    "nesting": (b'{"title": ' + b"[" * 200_000, "nesting", "is nested too deeply"),
    "a lone surrogate": (b'{"title": "\\uD800"}', "json", "surrogates not allowed"),
    "a surrogate in a key": (b'{"title": "x", "\\udfff": 1}', "json", "surrogates not allowed"),
    "other bytes": (b'{"title": "\xff"}', "json", "is not JSON: 'utf-8' codec can't decode byte 0xff"),
    "nothing": (b"", "json", "is not JSON: Expecting value"),
    "half": (b'{"title": "x', "json", "is not JSON: Unterminated string"),
    "zeros": (bytes(64), "json", "is not JSON"),
    "another schema": (b'{"title": "x", "schema": 2}', "version", "has schema 2; this version reads 1"),
    "no schema": (b'{"title": "x"}', "version", "has schema None; this version reads 1"),
    "no table": (b"[]", "schema", "it is a list; expected a table of keys"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_json_file_is_one_message_with_its_name_and_a_check(what, tmp_path):
    content, check, told = DAMAGED[what]
    file = tmp_path / "thing.json"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json(file, Whole, "thing", DataError, schema=1)
    assert (caught.value.check, "\n" in str(caught.value)) == (check, False)
    assert str(file) in str(caught.value) and told in str(caught.value)


def test_a_pair_of_surrogates_is_a_letter():
    assert parse_json(b'{"title": "\\ud83d\\ude00"}', Whole, "thing", StoreError).title == "\N{GRINNING FACE}"


@pytest.mark.parametrize(("most", "is_read"), [(14, True), (13, False)])
def test_a_file_larger_than_allowed_is_refused(tmp_path, most, is_read):
    file = tmp_path / "thing.json"
    file.write_bytes(b'{"title": "x"}')
    if is_read:
        assert read_json(file, Whole, "thing", StoreError, most_bytes=most).title == "x"
    else:
        with pytest.raises(StoreError, match=f"^thing {file}: it is larger than {most} bytes$") as caught:
            read_json(file, Whole, "thing", StoreError, most_bytes=most)
        assert caught.value.check == "size"


@pytest.mark.parametrize(("name", "told"), [("nowhere.json", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_opened_is_told_with_the_reason(tmp_path, name, told):
    with pytest.raises(StoreError, match=f"^thing {tmp_path / name}: {told}$"):
        read_json(tmp_path / name, Whole, "thing", StoreError)


TOML = {
    "no TOML": (b"title = ", "is not TOML: Invalid value"),
    "a key twice": (b'title = "x"\ntitle = "y"', "is not TOML: Cannot overwrite a value"),
    "other bytes": (b'title = "\xff"', "is not TOML: 'utf-8' codec can't decode byte 0xff"),
    "nesting": (b"title = " + b"[" * 100_000, "is nested too deeply"),
    "not a number": (b'title = "x"\nshare = nan', ": key 'share' is nan; expected a number >= 0.0"),
    "a date": (b'title = "x"\nshare = 2020-01-01', "; expected a number"),
    "a misspelt key": (
        b"title = 'x'\n[[parts]]\nnme = 'a'",
        ": key 'parts[0]': unknown key 'nme'. Did you mean 'name'",
    ),
}


@pytest.mark.parametrize("what", TOML)
def test_a_wrong_toml_file_is_one_message_with_its_name(what, tmp_path):
    content, told = TOML[what]
    file = tmp_path / "thing.toml"
    file.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read_toml(file, Whole, "recipe", RecipeError)
    assert str(caught.value).startswith(f"recipe {file}") and told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_toml_may_begin_with_a_byte_order_mark_and_lack_what_the_file_is_called(tmp_path):
    file = tmp_path / "thing.toml"
    file.write_bytes(b"\xef\xbb\xbfkind = 'resize'")
    assert read_toml(file, Whole, "thing", StoreError, title="thing") == Whole(title="thing", kind="resize")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
wholes = st.builds(
    Whole, title=texts, named=st.dictionaries(texts, st.builds(Part, name=st.sampled_from(["a", "b"])), max_size=3)
)


@settings(max_examples=60, deadline=None)
@given(wholes, st.lists(st.lists(texts | st.integers() | st.booleans() | st.none(), max_size=4), max_size=4))
def test_what_is_written_as_json_is_read_back_whatever_the_texts(whole, lists):
    assert parse_json(to_json(whole), Whole, "thing", StoreError) == whole
    assert json.loads(to_json(lists)) == lists


def test_json_has_a_line_for_each_innermost_list():
    assert to_json({"a": [1, 2], "b": ["[x]", "y"], "c": [[1.5, None], []], "d": "[\n 1\n]"}).decode() == (
        '{\n "a": [1, 2],\n "b": [\n  "[x]",\n  "y"\n ],\n "c": [\n  [1.5, null],\n  []\n ],\n "d": "[\\n 1\\n]"\n}\n'
    )


def test_nan_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"score": float("nan")})


def test_a_file_is_written_with_its_folder_for_everybody_to_read(tmp_path):
    file = tmp_path / "new/deep/thing.json"
    write(file, b"content")
    assert file.read_bytes() == b"content" and stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["thing.json"]


def test_who_reads_a_file_that_is_written_anew_reads_the_old_one_to_its_end(tmp_path):
    file = tmp_path / "thing.json"
    write(file, b"old content")
    with file.open("rb") as reader:
        write(file, b"new")
        assert reader.read() == b"old content" and file.read_bytes() == b"new"


def test_a_file_in_the_way_of_its_folder_is_one_message(tmp_path):
    (tmp_path / "runs").write_bytes(b"")
    with pytest.raises(StoreError, match=f"^cannot write {tmp_path}/runs/a.json: .* Free the space or the permission"):
        write(tmp_path / "runs/a.json", b"content")


def test_a_folder_in_the_way_of_a_file_leaves_no_temporary_file(tmp_path):
    (tmp_path / "thing.json").mkdir()
    with pytest.raises(StoreError, match="cannot write .*thing.json: Is a directory"):
        write(tmp_path / "thing.json", b"content")
    assert list(tmp_path.rglob("*")) == [tmp_path / "thing.json"]


SMALL_DISK = """
import resource, signal, sys
from pathlib import Path
from deeploc_bench.contract.files import write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write(Path(sys.argv[1]), bytes(2000))
"""


def test_where_space_runs_out_the_old_content_stays_and_no_temporary_file(tmp_path):
    file = tmp_path / "thing.json"
    write(file, b"old")
    done = subprocess.run([sys.executable, "-c", SMALL_DISK, file], capture_output=True, text=True)
    assert f"StoreError: cannot write {file}: File too large. Free the space or the permission" in done.stderr
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_for_any_reason_leaves_the_old_content_and_no_temporary_file(tmp_path):
    file = tmp_path / "thing.json"
    write(file, b"old")
    with pytest.raises(TypeError):
        write(file, None)
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_a_digest_is_blake2b_of_the_lines_in_their_order():
    assert digest(["a", "b"]) == hashlib.blake2b(b"a\nb", digest_size=16).hexdigest()
    assert digest(["a", "b"]) != digest(["b", "a"]) and len(digest([])) == 32
