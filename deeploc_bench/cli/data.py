"""`deeploc-bench data`: check, pack or list the data of a suite."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from deeploc_bench.cli import common
from deeploc_bench.contract.findings import as_json as findings_json
from deeploc_bench.contract.findings import summary
from deeploc_bench.contract.specs import SPLITS
from deeploc_bench.data.manifest import manifest
from deeploc_bench.data.packs import cache_folder
from deeploc_bench.data.suites import Suite, load_suite
from deeploc_bench.data.survey import load_sound, survey


@click.group("data")
def command() -> None:
    """Check, pack or list the data of a suite."""


def _sound(suite: str, data: str | None, plugins: tuple[str, ...]) -> Suite:
    return load_sound(common.load(plugins).suite(suite), data=data, progress=common.progress)[0]


@command.command("check")
@click.argument("suite")
@common.data_option
@common.plugin_option
@common.json_option
def check(suite: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Read every sample and say all that is wrong; exit code 0 only when clean."""
    loaded = load_suite(common.load(plugins).suite(suite), data=data, progress=common.progress)
    findings = survey(loaded)
    if as_json:
        value = {"suite": loaded.name, "fingerprint": loaded.fingerprint, "findings": findings_json(findings)}
        common.print_json(value)
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
    common.print_json(msgspec.to_builtins(manifest(_sound(suite, data, plugins))))


def _counts(suite: Suite) -> str:
    lines: list[str] = [f"{suite.name} · fingerprint {suite.fingerprint}"]
    for generator in suite.generators.values():
        counts: Any = ", ".join(f"{len(generator.splits[s])} {s}" for s in SPLITS if s in generator.splits)
        lines.append(f"  {generator.name} ({generator.role}): {counts}")
    lines += [f"  {name} (test-only): not there, left out" for name in suite.absent]
    return "\n".join(lines)
