"""`deeploc-bench data`: check, pack or list the data of a suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.specs import SPLITS
from deeploc_bench.data.packing import cache_folder
from deeploc_bench.data.suites import Suite, empty_masks, leaks, load_suite, manifest


@click.group("data")
def command() -> None:
    """Check, pack or list the data of a suite."""


def _load(suite: str, data: str | None, plugins: tuple[str, ...]) -> Suite:
    return load_suite(common.load(plugins), suite, data=Path(data) if data else None, progress=common.progress)


@command.command("check")
@click.argument("suite")
@common.data_option
@common.plugin_option
@common.json_option
def check(suite: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Read every sample and say what is wrong; exit code 0 only when clean."""
    loaded = _load(suite, data, plugins)
    findings = [*leaks(loaded), *empty_masks(loaded)]
    if as_json:
        common.print_json({"suite": suite, "fingerprint": loaded.fingerprint, "findings": findings})
    else:
        print(_counts(loaded))
        print("\n".join([f"{len(findings)} findings", *findings]) if findings else "clean")
    sys.exit(1 if findings else 0)


@command.command("pack")
@click.argument("suite")
@common.data_option
@common.plugin_option
@common.json_option
def pack(suite: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Decode a suite once; samples read from files are kept in the cache."""
    loaded = _load(suite, data, plugins)
    if as_json:
        common.print_json({"suite": suite, "fingerprint": loaded.fingerprint, "cache": str(cache_folder() / suite)})
        return
    print(_counts(loaded))
    kept = (cache_folder() / suite).exists()
    print(f"packed in {cache_folder() / suite}" if kept else "the plugin holds these images; nothing needs keeping")


@command.command("manifest")
@click.argument("suite")
@common.data_option
@common.plugin_option
@common.json_option
def print_manifest(suite: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Print the manifest of a suite: its fingerprint, and each test image's source, mask area and pixels (JSON)."""
    common.print_json(manifest(_load(suite, data, plugins)))


def _counts(suite: Suite) -> str:
    lines: list[str] = [f"{suite.name} · fingerprint {suite.fingerprint}"]
    for generator in suite.generators.values():
        counts: Any = ", ".join(f"{len(generator.splits[s])} {s}" for s in SPLITS if s in generator.splits)
        lines.append(f"  {generator.name} ({generator.role}): {counts}")
    return "\n".join(lines)
