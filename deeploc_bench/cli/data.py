"""`deeploc-bench data`: check, pack or list the data of a suite."""

import sys
from collections.abc import Callable
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.findings import as_json as findings_json
from deeploc_bench.contract.findings import summary
from deeploc_bench.contract.specs import SPLITS
from deeploc_bench.data.packs import cache_folder
from deeploc_bench.data.suites import Suite, load_suite, manifest
from deeploc_bench.data.survey import load_sound, survey


@click.group("data")
def command() -> None:
    """Check, pack or list the data of a suite."""


def _of_suite(run: Callable[..., None]) -> Callable[..., None]:
    """Add what each of these commands takes."""
    return click.argument("suite")(common.data_option(common.plugin_option(common.json_option(run))))


@command.command("check")
@_of_suite
def check(suite: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Read every sample and say all that is wrong; exit code 0 only when clean."""
    loaded = load_suite(common.load(plugins).suite(suite), data=data, progress=common.progress)
    findings = survey(loaded)
    value = {"suite": loaded.name, "fingerprint": loaded.fingerprint, "findings": findings_json(findings)}
    common.show(value, "\n".join([_counts(loaded), *(summary(findings, shown=5) or ["clean"])]), as_json)
    sys.exit(1 if findings else 0)


@command.command("pack")
@_of_suite
def pack(as_json: bool, **asked: Any) -> None:
    """Decode a suite once; samples read from files are kept in the cache."""
    loaded = _sound(**asked)
    cache = cache_folder() / loaded.name
    value = {"suite": loaded.name, "fingerprint": loaded.fingerprint, "cache": str(cache)}
    kept = f"packed in {cache}" if cache.exists() else "the plugin holds these images; nothing needs keeping"
    common.show(value, f"{_counts(loaded)}\n{kept}", as_json)


@command.command("manifest")
@_of_suite
def print_manifest(as_json: bool, **asked: Any) -> None:
    """Print the manifest of a suite: its fingerprint, and each test image's source, mask area and pixels (JSON)."""
    common.print_json(manifest(_sound(**asked)))


def _sound(suite: str, data: str | None, plugins: tuple[str, ...]) -> Suite:
    return load_sound(common.load(plugins).suite(suite), data=data, progress=common.progress)[0]


def _counts(suite: Suite) -> str:
    lines = [f"{suite.name} · fingerprint {suite.fingerprint}"]
    for generator in suite.generators.values():
        counts = ", ".join(f"{len(generator.splits[s])} {s}" for s in SPLITS if s in generator.splits)
        role = f"{generator.role}, added by plugin {generator.added_by}" if generator.added_by else generator.role
        lines.append(f"  {generator.name} ({role}): {counts}")
    lines += [f"  {name} (test-only): not there, left out" for name in suite.absent]
    return "\n".join(lines)
