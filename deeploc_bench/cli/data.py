"""`deeploc-bench data`: check, pack or list the data of a suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.findings import refuse, summary
from deeploc_bench.contract.specs import SPLITS
from deeploc_bench.data.packs import cache_folder
from deeploc_bench.data.suites import Suite, load_suite, manifest
from deeploc_bench.data.survey import survey


@click.group("data")
def command() -> None:
    """Check, pack or list the data of a suite."""


def _load(suite: str, data: str | None, plugins: tuple[str, ...]) -> Suite:
    return load_suite(common.load(plugins), suite, data=Path(data) if data else None, progress=common.progress)


def _sound(suite: str, data: str | None, plugins: tuple[str, ...]) -> Suite:
    loaded = _load(suite, data, plugins)
    refuse(f"suite {loaded.name!r}", survey(loaded))
    return loaded


@command.command("check")
@click.argument("suite")
@common.data_option
@common.plugin_option
@common.json_option
def check(suite: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Read every sample and say all that is wrong; exit code 0 only when clean."""
    loaded = _load(suite, data, plugins)
    findings = survey(loaded)
    if as_json:
        found = [{"level": "error" if f.is_error else "warning", "check": f.check, "what": f.what} for f in findings]
        common.print_json({"suite": loaded.name, "fingerprint": loaded.fingerprint, "findings": found})
    else:
        print("\n".join([_counts(loaded), *(summary(findings, shown=5) or ["clean"])]))
    sys.exit(1 if findings else 0)


@command.command("pack")
@click.argument("suite")
@common.data_option
@common.plugin_option
@common.json_option
def pack(suite: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Decode a suite once; samples read from files are kept in the cache."""
    loaded = _sound(suite, data, plugins)
    if as_json:
        common.print_json(
            {"suite": loaded.name, "fingerprint": loaded.fingerprint, "cache": str(cache_folder() / loaded.name)}
        )
        return
    print(_counts(loaded))
    kept = (cache_folder() / loaded.name).exists()
    print(
        f"packed in {cache_folder() / loaded.name}" if kept else "the plugin holds these images; nothing needs keeping"
    )


@command.command("manifest")
@click.argument("suite")
@common.data_option
@common.plugin_option
@common.json_option
def print_manifest(suite: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Print the manifest of a suite: its fingerprint, and each test image's source, mask area and pixels (JSON)."""
    common.print_json(manifest(_sound(suite, data, plugins)))


def _counts(suite: Suite) -> str:
    lines: list[str] = [f"{suite.name} · fingerprint {suite.fingerprint}"]
    for generator in suite.generators.values():
        counts: Any = ", ".join(f"{len(generator.splits[s])} {s}" for s in SPLITS if s in generator.splits)
        lines.append(f"  {generator.name} ({generator.role}): {counts}")
    lines += [f"  {name} (test-only): not there, left out" for name in suite.absent]
    return "\n".join(lines)
