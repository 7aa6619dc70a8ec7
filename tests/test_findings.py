"""What is found wrong is told, counted and refused in one way everywhere."""

from __future__ import annotations

import pytest

from deeploc_bench.contract.errors import DataError
from deeploc_bench.contract.findings import DATA_ERRORS, DATA_WARNINGS, Finding, as_json, data_finding, refuse, summary

LEAK = data_finding("leak", "source 'a' stands on both sides")
GRAY = data_finding("gray", "mask 1.png")
LEVELS = data_finding("levels", "mask 2.png")


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding(check="json", message="is broken"), "error [json] is broken"),
        (Finding(check="json", message="is broken", where="a.json"), "error [json] a.json: is broken"),
        (Finding(check="note", message="is old", where="a.json", level="warning"), "warning [note] a.json: is old"),
    ],
)
def test_a_finding_is_one_line_with_level_check_and_place(finding, line):
    assert finding.line == line


@pytest.mark.parametrize("check", [*DATA_ERRORS, *DATA_WARNINGS])
def test_the_level_of_a_finding_about_data_is_its_checks(check):
    assert data_finding(check, "x").is_error == (check not in DATA_WARNINGS)


def test_json_has_level_check_and_the_message_with_its_place():
    found = [Finding(check="json", message="is broken", where="a.json"), LEVELS]
    assert as_json(found) == [
        {"level": "error", "check": "json", "message": "a.json: is broken"},
        {"level": "warning", "check": "levels", "message": "mask 2.png"},
    ]


def test_a_summary_counts_each_check_errors_first_and_shows_the_first_few():
    masks = [data_finding("gray", f"mask {i}.png") for i in range(5)]
    assert summary([LEVELS, *masks, LEAK], shown=2) == [
        "error [gray] 5 masks are gray",
        "    mask 0.png",
        "    mask 1.png",
        "    and 3 more",
        "error [leak] 1 sources or images are both trained on and tested on",
        "    source 'a' stands on both sides",
        "warning [levels] 1 masks have levels other than 0 and 255",
        "    mask 2.png",
    ]


def test_a_summary_of_as_many_as_are_shown_has_no_more():
    assert summary([GRAY, GRAY, GRAY])[1:] == ["    mask 1.png"] * 3


def test_nothing_found_is_an_empty_summary():
    assert summary([]) == []


def test_errors_are_refused_with_the_first_of_each_check_and_without_the_warnings():
    with pytest.raises(DataError) as caught:
        refuse("suite 'x'", [LEVELS, LEAK, GRAY])
    assert str(caught.value) == (
        "suite 'x': 2 errors in its data; 'deeploc-bench data check' lists all.\n"
        "  error [gray] 1 masks are gray\n      mask 1.png\n"
        "  error [leak] 1 sources or images are both trained on and tested on\n      source 'a' stands on both sides"
    )


@pytest.mark.parametrize("findings", [[], [LEVELS]])
def test_warnings_alone_are_let_pass(findings):
    assert refuse("suite 'x'", findings) is None
