"""The page on Python, run from top to bottom in one process as a notebook would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

PAGE = (Path(__file__).parents[1] / "docs/python.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(python|text)([^\n]*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
END = "end of a block's output"


def masked(text):
    """Return the lines of a text, what depends on a machine masked: numbers, and the widths they give."""
    lines = [line for line in text.strip().splitlines() if not line.startswith(("* below", "% * below"))]
    lines = [re.sub(r"[-+]?\d\.\d{3}\*?|< 0\.001", "#", line) for line in lines]
    return [re.sub(r" +", " ", re.sub(r"-{2,}", "--", line)) for line in lines]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return what each block of code that prints something printed, in order."""
    folder = tmp_path_factory.mktemp("notebook")
    script = []
    for _, mark, code in (block for block in BLOCKS if block[0] == "python"):
        if mark:
            (folder / mark.partition("file=")[2]).write_text(code)
        else:
            script += [code, f"print({END!r})\n"]
    command = [sys.executable, "-c", "".join(script)]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(f"{END}\n")[:-1]


def test_each_block_of_the_page_prints_what_is_shown_below_it_and_nothing_else(outputs):
    shown = [text for kind, _, text in BLOCKS if kind == "text"]
    assert len(outputs) == len(shown)
    for printed, text in zip(outputs, shown, strict=True):
        assert masked(printed) == masked(text)
