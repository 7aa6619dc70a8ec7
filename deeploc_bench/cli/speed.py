"""`deeploc-bench speed`: what a model's forward pass costs on this device."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import PluginError
from deeploc_bench.results.render import Table, as_text

BENCHMARK = Path(__file__).parents[1] / "training" / "speed_benchmark.py"


@click.command("speed")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--size", type=click.IntRange(32, 8192), default=64, show_default=True, help="Pixels a side (photos: 64)."
)
@common.device_option("measure")
@common.threads_option
@common.plugin_option
@common.json_option
def command(
    *, models: tuple[str, ...], size: int, device: str, threads: int, plugins: tuple[str, ...], as_json: bool
) -> None:
    """Measure latency, images per second, FLOPs, parameters and peak memory of models, each in a process of its own."""
    from deeploc_bench.training.device import resolve_device

    registry = common.load(plugins)
    for name in models:
        registry.model(name)
    asked = {"size": size, "device": str(resolve_device(device)), "threads": threads, "plugins": plugins}
    found = []
    with common.progress("speed", len(models)) as tick:
        for name in models:
            found.append(_measured({**asked, "models": [name]}))
            tick()
    headers = ("model", "latency_ms", "images_per_second", "GFLOPs an image", "parameters", "peak_memory_mib")
    lines = tuple(_line(one) for one in found)
    where = f"{size} x {size} · {found[0]['device']} · {found[0]['threads']} threads · latency of 1 image, rate of 16"
    common.show(found, as_text(Table(caption=where, headers=headers, lines=lines)), as_json)


def _line(one: dict[str, Any]) -> tuple[str, ...]:
    rates = (f"{one['latency_ms']:.2f}", f"{one['images_per_second']:.1f}", f"{one['flops_per_image'] / 1e9:.3f}")
    return (one["model"], *rates, f"{one['parameters']:,}", f"{one['peak_memory_mib']:.0f}")


def _measured(asked: dict[str, Any]) -> dict[str, Any]:
    """Run the benchmark of one model in a process of its own, so that peak memory is its own."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "speed.json"
        command = [sys.executable, "-m", "pytest", str(BENCHMARK), "-q", "-c", os.devnull, "-p", "no:cacheprovider"]
        command += ["--rootdir", scratch, "--benchmark-json", str(out), "--benchmark-min-rounds", "10"]
        # of a pytest around it nothing is passed on: under one of several processes no benchmark is made
        around = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            command, env={**around, "DEEPLOC_SPEED": json.dumps(asked)}, capture_output=True, text=True
        )
        if done.returncode:
            raise PluginError(f"model {asked['models'][0]!r} cannot be measured:\n{done.stdout[-1500:]}")
        record = json.loads(out.read_text("utf-8"))
    one, many = sorted(record["benchmarks"], key=lambda part: int(part["extra_info"]["batch"]))
    about, rate = one["extra_info"], many["extra_info"]
    medians = {"one": one["stats"]["median"], "many": many["stats"]["median"]}  # seconds
    return {
        **{key: about[key] for key in ("model", "size", "device", "threads", "parameters", "flops_per_image")},
        "peak_memory_mib": rate["peak_memory_mib"],
        "latency_ms": 1000 * medians["one"],
        "images_per_second": rate["batch"] / medians["many"],
        "pytest_benchmark": {**medians, "version": record["version"]},
    }
