"""`deeploc-bench check`: do a plugin's models, losses and generator datasets hold what the contract says?"""

import sys

import click

from deeploc_bench.cli import common
from deeploc_bench.conformance.checking import check
from deeploc_bench.contract.findings import as_json as findings_json


@click.command("check")
@click.argument("what", metavar="NAME|FILE|MODULE")
@common.data_option
@common.plugin_option
@common.json_option
def command(what: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Try a model, a loss or a suite, or all those of a plugin, on a few small images and on the CPU.

    A line a check: what was done, or what is wrong and what to change. Exit code 0 where no check fails, else 1.
    """
    found = []
    for checked in check(what, plugins=plugins, data=data, registry=common.load(plugins), progress=common.progress):
        found.append(checked)
        if not as_json:
            common.put(checked.text)
    if as_json:
        values = [
            {
                "name": checked.name,
                "ok": checked.is_ok,
                "checks": [
                    {"check": one.check, "does": one.does, "level": one.level, "findings": findings_json(one.findings)}
                    for one in checked.results
                ],
            }
            for checked in found
        ]
        common.print_json(values)
    sys.exit(0 if all(checked.is_ok for checked in found) else 1)
