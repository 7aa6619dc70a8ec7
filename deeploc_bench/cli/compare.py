"""`deeploc-bench compare`: two rows of a runs folder, or two submissions, image by image."""

import click

from deeploc_bench.api.compare import compare
from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.plan.protocols import SHOWN


@click.command("compare")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--protocol", default="loo", metavar="same|loo|cross|lodo|score", show_default=True, help="Protocol.")
@common.runs_option
@click.option("--leaderboard", "board", default="leaderboard", metavar="DIR", show_default=True, help="Leaderboard.")
@common.json_option
def command(*, one: str, other: str, protocol: str, runs: str, board: str, as_json: bool) -> None:
    """Compare two rows, A minus B: each a MODEL+LOSS of a runs folder, or the name or file of a submission.

    MODEL+LOSS@EXPERIMENT and MODEL+LOSS@matched tell apart several of one name. The difference is paired source by
    source; the variance between seeds is pooled over everything that lies beside the two.
    """
    if protocol not in SHOWN:
        raise UsageError(f"--protocol: {unknown('protocol', protocol, SHOWN)}")
    found = compare(one, other, protocol=protocol, runs=runs, leaderboard=board)
    value = {"a": one, "b": other, "protocol": protocol, "rows": found.rows()}
    common.show(value, str(found), as_json)
