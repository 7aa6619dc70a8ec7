"""`deeploc-bench data`: check, pack, list or make the data of a suite, and clean the cache."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.cli.data_export import export
from deeploc_bench.cli.data_make import make_dataset
from deeploc_bench.contract.findings import as_json as findings_json
from deeploc_bench.contract.findings import summary
from deeploc_bench.contract.specs import NAME_PATTERN, SPLITS
from deeploc_bench.data.cleaning import clean
from deeploc_bench.data.included import named_folders, suites_of
from deeploc_bench.data.packs import cache_folder
from deeploc_bench.data.suites import Suite, load_suite, manifest
from deeploc_bench.data.survey import load_sound, survey


@click.group("data")
def command() -> None:
    """Check, pack, list or make the data of a suite, or clean the cache of what was packed."""


command.add_command(export)
command.add_command(make_dataset)


def _of_suite(run: Callable[..., None]) -> Callable[..., None]:
    """Add what each of these commands takes."""
    return click.argument("suite")(common.data_option(common.plugin_option(common.json_option(run))))


@command.command("check")
@_of_suite
@common.threads_option
def check(suite: str, data: str | None, plugins: tuple[str, ...], threads: int, as_json: bool) -> None:
    """Read every sample and say all that is found; exit code 0 only when nothing is wrong."""
    loaded = load_suite(common.load(plugins).suite(suite), data=data, progress=common.progress, threads=threads)
    findings = survey(loaded)
    value = {"suite": loaded.name, "fingerprint": loaded.fingerprint, "findings": findings_json(findings)}
    is_clean = all(finding.is_note for finding in findings)
    common.show(value, "\n".join([_counts(loaded), *summary(findings, shown=5), *["clean"] * is_clean]), as_json)
    sys.exit(0 if is_clean else 1)


@command.command("pack")
@_of_suite
@common.threads_option
def pack(as_json: bool, **asked: Any) -> None:
    """Decode a suite once; samples read from files are kept in the cache. What was stopped goes on where it was."""
    loaded = _sound(**asked)
    cache = cache_folder() if loaded.included else cache_folder() / loaded.name  # each included suite has its own
    value = {"suite": loaded.name, "fingerprint": loaded.fingerprint, "cache": str(cache)}
    kept = f"packed in {cache}" if cache.exists() else "the plugin holds these images; nothing needs keeping"
    common.show(value, f"{_counts(loaded)}\n{kept}", as_json)


@command.command("manifest")
@_of_suite
@common.threads_option
def print_manifest(as_json: bool, **asked: Any) -> None:
    """Print the manifest of a suite: its fingerprint, and each test image's source, mask area and pixels (JSON)."""
    common.print_json(manifest(_sound(**asked)))


@command.command("clean")
@_of_suite
def clean_cache(suite: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Remove packed data that no file stands behind any more; with --data, of images of that folder alone.

    What another process is making or reading is left alone.
    """
    is_cached = re.fullmatch(NAME_PATTERN, suite) and (cache_folder() / suite).is_dir()
    names = [suite] if is_cached else suites_of(common.load(plugins).suite(suite))
    folders = (named_folders(data) or dict.fromkeys(names, data)) if data else {}
    asked = {name: Path(folders[name]) if data else None for name in names if not data or name in folders}
    found = [one for name, folder in asked.items() for one in clean(cache_folder() / name, folder)]
    lines = [f"{one.action}: {one.folder} ({one.bytes / 2**20:.1f} MiB): {one.reason}" for one in found]
    freed = sum(one.bytes for one in found if one.action == "removed")
    total = f"{freed / 2**20:.1f} MiB removed from {', '.join(str(cache_folder() / name) for name in names)}"
    common.show(
        {"suite": "+".join(names), "removed_bytes": freed, "folders": found}, "\n".join([*lines, total]), as_json
    )


def _sound(suite: str, data: str | None, plugins: tuple[str, ...], threads: int) -> Suite:
    return load_sound(common.load(plugins).suite(suite), data=data, progress=common.progress, threads=threads)[0]


def _counts(suite: Suite) -> str:
    lines = [f"{suite.name} · fingerprint {suite.fingerprint}"]
    for generator in suite.generators.values():
        counts = ", ".join(f"{len(generator.splits[s])} {s}" for s in SPLITS if s in generator.splits)
        role = f"{generator.role}, added by plugin {generator.added_by}" if generator.added_by else generator.role
        lines.append(f"  {generator.name} ({role}): {counts}")
    lines += [f"  {name} (test-only): not there, left out" for name in suite.absent]
    return "\n".join(lines)
