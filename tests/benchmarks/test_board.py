"""A thousand submissions of 4 x 900 images are verified and rendered in one run.

Run with: pytest tests/benchmarks --benchmark-only -o addopts=
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from boards import board, submission  # noqa: E402

GENERATORS = ("lama", "ldm", "pluralistic", "repaint-p2")
COUNT, IMAGES = 1000, 900


def run(*arguments):
    """Run a command, and return the most memory it took, in MiB."""
    code = "import resource, sys\nfrom deeploc_bench.cli import main\ntry:\n    main()\nfinally:\n"
    code += "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return int(done.stderr.splitlines()[-1])


def test_a_thousand_submissions(benchmark, tmp_path, capsys):
    benchmark.group = "1000 submissions of 4 x 900 images, verified and rendered"
    entry = submission("entry", images=IMAGES, seeds=(0,), generators=GENERATORS)
    folder = board(tmp_path / "board", [entry], images=IMAGES, generators=GENERATORS)
    first = folder / "submissions/synthetic/entry.json"
    text = first.read_text()
    for place in range(COUNT - 1):
        other = text.replace('"name": "entry"', f'"name": "entry-{place}"')
        first.with_name(f"entry-{place}.json").write_text(other)
    peak = benchmark.pedantic(lambda: run("leaderboard", folder), rounds=1)
    benchmark.extra_info["peak_memory_mib"] = peak
    with capsys.disabled():
        print(f"\n{COUNT} submissions, {len(text) / 2**20:.1f} MiB each: peak memory {peak} MiB")
