"""The Dockerfile copies what an installation takes and no more, and is what docs/docker.md says; nothing is built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from conftest import environment
from test_docs import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COPIES = [line.split() for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE)]
COPIED = [source for *sources, _ in COPIES for source in sources]
PAGE = (ROOT / "docs/docker.md").read_text("utf-8")


def test_what_is_copied_is_there_and_nothing_else_reaches_the_build():
    assert COPIED and all((ROOT / source).exists() for source in COPIED)
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    assert sorted(kept) == sorted(COPIED)


def test_the_page_names_the_arguments_and_volumes_of_the_image():
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert set(re.findall(r"--build-arg (\w+)=", PAGE)) == arguments
    assert set(re.findall(r"--build-arg \w+=(\w+)", PAGE)) <= set(re.findall(r" AS (\w+)$", DOCKERFILE, re.MULTILINE))
    volumes = re.findall(r'"(/[\w/]+)"', re.search(r"^VOLUME (.*)$", DOCKERFILE, re.MULTILINE)[1])
    assert all(f"| `{volume}` |" in PAGE and f":{volume} " in PAGE.replace('"', " ") for volume in volumes)
    assert re.search(r"^USER (?!root)", DOCKERFILE, re.MULTILINE) and 'ENTRYPOINT ["deeploc-bench"]' in DOCKERFILE


@pytest.mark.slow
def test_what_is_copied_is_all_that_an_installation_takes(tmp_path):
    for *sources, target in COPIES:
        for source in sources:
            place = tmp_path / target.removeprefix("/opt/deeploc-bench/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", "site"]
    subprocess.run([*pip, "."], cwd=tmp_path, check=True, env=environment())
    command = [sys.executable, "-P", "-m", "deeploc_bench", "data", "check", "photos"]
    site = environment(PYTHONPATH=str(tmp_path / "site"))
    done = subprocess.run(command, cwd=tmp_path / "site", env=site, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
