"""The command line: one file a command, loaded when it is asked for; the only room that prints or reads argv."""

import errno
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from itertools import count
from os import _exit as leave  # the real one, wherever a plugin's is refused
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

import click

from deeploc_bench.contract.errors import DeeplocError, ProcessFailed, TrainingFailed, reason_of, unknown
from deeploc_bench.contract.findings import printable
from deeploc_bench.contract.isolation import Stopped
from deeploc_bench.contract.settings import STOPS
from deeploc_bench.training import ranks

LEADER_TELLS = 60
"""Seconds after which a process ends by itself where its leader, who finds the same error, has not told it."""
COMMANDS = {
    "check": "Try models, losses and suites on a few images: do they hold the contract?",
    "compare": "Compare two rows: their difference, its interval, and what could be told.",
    "data": "Check, pack, list or make the data of a suite.",
    "leaderboard": "Render the leaderboard page out of its submissions.",
    "list": "List models, losses, suites, protocols, recipes or plugins.",
    "new": "Write a model, a loss or a dataset to start from.",
    "predict": "Write the heatmaps and overlays of images by a finished training.",
    "report": "Write one HTML file of a runs folder.",
    "results": "Print the tables of a runs folder again.",
    "run": "Train and test by a protocol, and print the table.",
    "score": "Score predictions made elsewhere.",
    "speed": "Measure what a model's forward pass costs.",
    "submit": "Collect finished trainings into a submission.",
    "test": "Test finished trainings on another suite than theirs.",
    "verify": "Recompute and check submissions.",
    "weights": "Fetch pretrained weights.",
}


HABITS = {
    **dict.fromkeys(("--epochs", "--num-epochs"), "--set epochs=N"),
    **dict.fromkeys(("--batch-size", "--batch_size", "--bs"), "--set batch_size=N"),
    **dict.fromkeys(("--lr", "--learning-rate", "--learning_rate"), "--set lr=X"),
    **dict.fromkeys(("--optimizer", "--optim"), "--set optimizer=adam|adamw|sgd"),
    **dict.fromkeys(("--gpu", "--gpus", "--cuda"), "--device cuda:i"),
    **dict.fromkeys(("--amp", "--fp16", "--bf16"), "--precision fp16|bf16"),
    **dict.fromkeys(("--workers", "--num-workers", "--num_workers"), "--threads N"),
    **dict.fromkeys(("--data-path", "--data_path", "--data-dir", "--root"), "--data PATH"),
    **dict.fromkeys(("--weights", "--pretrained"), "--set weights=default|none|FILE"),
    **dict.fromkeys(("--dataset", "--datasets"), "--suite NAME|FILE.toml"),
    **dict.fromkeys(("--output", "--output-dir", "--out-dir", "--save-dir", "--work-dir"), "--runs DIR"),
}
"""Flags that people bring from elsewhere, and what they are called here."""


USES = {
    **dict.fromkeys(("train", "fit", "bench", "benchmark"), "run"),
    **dict.fromkeys(
        ("eval", "evaluate"), "score for predictions made elsewhere, run for a model, or test for a training"
    ),
    **dict.fromkeys(("transfer",), "test"),
    **dict.fromkeys(("show", "table", "tables"), "results"),
    **dict.fromkeys(("validate", "lint"), "check"),
    **dict.fromkeys(("infer", "inference"), "predict"),
}
"""Commands that people bring from elsewhere, and what they are called here."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What a disk says that takes no more."""
STOPPED = "stopped; what is finished is saved. Run the same command again to go on."


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"deeploc_bench.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(version("deeploc-bench"))
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Does a deepfake localizer still find the edited pixels when it has never seen the generator?"""


def main() -> NoReturn:
    """Run the command line; exit codes: 0 done, 1 a cell failed or a check found something, 2 bad input, 130/143."""
    try:
        _run_command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if code <= 128:  # else every signal is ignored by now
            for stop in STOPS:  # one that comes while the program is leaving ends it at once, with the same exit code
                signal.signal(stop, lambda *_: leave(code))
        raise


def _run_command() -> NoReturn:
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    is_debug = len(arguments) < len(sys.argv) - 1
    handler = _stopper()
    for stop in STOPS:
        signal.signal(stop, handler)
    try:
        _refuse_empty(arguments)
        with cli.make_context("deeploc-bench", ["--debug"] * is_debug + arguments) as context:
            try:
                cli.invoke(context)
            finally:
                sys.stdout.flush()
    except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError) as error:
        if isinstance(error, click.ClickException):
            error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever reads has seen enough
        _let_go(sys.stderr)
        sys.exit(0)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in FULL:
            _let_go()  # or what could not be printed would be printed again at the end
        if told := _told(error):
            _end(*told, is_debug, is_told=ranks.is_leader() or isinstance(error, ProcessFailed))
        raise
    sys.exit(0)


def _refuse_empty(arguments: list[str]) -> None:
    """Raise UsageError where an argument is empty, which would be the working directory where it is a path."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument or re.fullmatch("--[a-z-]+=", argument):
            flag = argument.rstrip("=") or before
            what = f"{flag} is given an empty value" if flag[:1] == "-" else f"an argument after {flag!r} is empty"
            raise click.UsageError(f"{what}, as by a shell variable that is not set; give it one, or leave it out")


def _told(error: BaseException) -> tuple[int, str] | None:
    """Return the exit code and the message of what ended a command; None where it ended itself, or by a bug."""
    if isinstance(error, click.ClickException):
        return 2, _translated(error) or error.format_message()
    if isinstance(error, DeeplocError):
        return 2, str(error)
    if isinstance(error, TrainingFailed):
        return 1, str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        where = f"write {error.filename}" if error.filename else "print all results"
        return 2, f"cannot {where}: {error.strerror}. Free the space and run the same command again."
    if isinstance(error, Stopped | click.Abort):
        number = error.args[0] if isinstance(error, Stopped) else signal.SIGINT
        return 128 + number, STOPPED
    if isinstance(error, Exception) or (isinstance(error, SystemExit) and _is_own(error)):
        return None
    return 2, f"code of a plugin would end the program: {reason_of(error)}"


def _let_go(*others: TextIO | None) -> None:
    """Print no more, neither on stdout nor on other streams."""
    for stream in filter(None, (sys.stdout, *others)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _translated(error: click.ClickException) -> str | None:
    """Return what a flag from elsewhere is called here, if this command has such a flag; or the nearest command."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command if context else cli
    if isinstance(error, click.NoSuchOption):
        habit = HABITS.get(error.option_name, "")
        known = {name for parameter in command.params for name in parameter.opts}
        return f"{error.option_name} is not a flag here; say {habit}" if habit.partition(" ")[0] in known else None
    if context and isinstance(command, click.Group) and (found := re.match("No such command '(.*)'", error.message)):
        name, names = found[1], command.list_commands(context)
        return f"{name} is no command here; say {USES[name]}" if name in USES else unknown("command", name, names)
    return None


def _is_own(error: SystemExit) -> bool:
    """Tell whether a command of ours ended the program."""
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).parent == Path(__file__).parent


def _stopper() -> Callable[[int, FrameType | None], NoReturn]:
    """Return a handler of signals: the first one stops the command, another one ends it at once."""
    came = count()

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        if next(came):
            os.write(2, f"{STOPPED}\n".encode())  # whatever was being printed or put in order
            leave(128 + number)
        raise Stopped(number)

    return stop


def _end(code: int, message: str, is_debug: bool, *, is_told: bool) -> NoReturn:
    if is_debug:
        traceback.print_exc()
    for stop in STOPS:  # another signal would interrupt the telling
        signal.signal(stop, signal.SIG_IGN)
    if is_told:
        print(printable(f"error: {message}" if code == 2 else message), file=sys.stderr)
    elif code <= 128:  # torchrun ends all processes once one has ended, and the leader has yet to tell what all found
        for stop in STOPS:
            signal.signal(stop, signal.SIG_DFL)
        time.sleep(LEADER_TELLS)
    sys.exit(code)
