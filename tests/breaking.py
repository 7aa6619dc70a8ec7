"""Ways to break a command where it writes: killed, stopped, or a disk that is full or read-only from there on."""

from __future__ import annotations

import re
from pathlib import Path

from warm import command

TESTS = Path(__file__).parent
PLUGINS = ["--plugin", TESTS / "tiny.py", "--plugin", TESTS / "easy.py"]
SHORT = ["--model", "small", "--recipe", "quick", "--threads", "1", "--set", "epochs=2", "--set", "size=32"]
RUN = ["run", *PLUGINS, "--suite", "tiny", *SHORT, "--seed", "0", "--seed", "1"]
EASY = ["run", *PLUGINS, "--suite", "easy", "--protocol", "same", *SHORT]
SUBMIT = ["submit", "small+jaccard", "--suite", "tiny", "--contact", "me", "--date", "2026-01-31", "-o", "entry.json"]
BOARD = "leaderboard/submissions/tiny/entry.json"
# a suite of files, which is packed
FILED = """
suite = "filed"

[[generator]]
name = "dark"
role = "test-only"
split = "test"
images = "images/dark/{id}.png"
masks = "images/masks/dark/{id}.png"
"""
HOW = {"killed": -9, "stopped": 143, "stopped again and again": 143, "full": 2, "read-only": 2}
"""What happens at a write, and the exit code of the command that it happens to."""
BREAK = """
import errno, os, re, signal, sys
from pathlib import Path

here, how = os.getcwd(), os.environ["BREAK"]
seen = Path("seen").read_text().splitlines() if Path("seen").exists() else []
is_broken = False
real_sync = os.fsync

def path_of(name, at=-1):
    folder = os.readlink(f"/proc/self/fd/{at}") if at >= 0 else here
    return os.path.normpath(os.path.join(folder, os.fspath(name)))

def name_of(path):
    path = os.path.abspath(os.fspath(path))
    name = os.path.basename(path)
    if not path.startswith(here + "/") or name in ("log", "seen", ".lock"):
        return None
    if found := re.match(r"[.](writing|packing)-(.*)-|[.]packing-", name):
        name = found[2] or "pack"
    return os.path.splitext(name)[1] if name.endswith((".png", ".svg")) else re.sub(r"\\d+", "", name)

def happen(event, name):
    global is_broken
    label = f"{event} {name}"
    if name is None or (not is_broken and label in seen) or (how == "full" and event in ("remove", "rename")):
        return
    if not is_broken:
        is_broken = True
        with open("seen", "a") as file:
            print(label, file=file)
    elif how in ("killed", "stopped"):
        return
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how.startswith("stopped"):
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        number = errno.ENOSPC if how == "full" else errno.EROFS
        raise OSError(number, os.strerror(number))

def hook(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str) and flags & (os.O_WRONLY | os.O_RDWR):
            happen("open", name_of(path_of(path)))
    elif event == "os.mkdir":
        path = path_of(arguments[0], arguments[2])
        if not os.path.exists(path):
            happen("mkdir", name_of(path))
    elif event == "os.rename":
        happen("rename", name_of(path_of(arguments[1], arguments[3])))
    elif event in ("os.remove", "os.rmdir"):
        path = path_of(*arguments)
        if os.path.exists(path):
            happen("remove", name_of(path))

def sync(file):
    happen("fsync", name_of(os.readlink(f"/proc/self/fd/{file}")))
    real_sync(file)

if how:
    os.fsync = sync
    sys.addaudithook(hook)
"""


def finish(run, folder):
    """Fill a folder with finished trainings, a board with a submission, images, and a suite of files; return it."""
    for file in (folder / BOARD, folder / "leaderboard/suites/tiny.json"):
        file.parent.mkdir(parents=True)
    (folder / "filed.toml").write_text(FILED)
    export = ["data", "export", "tiny", *PLUGINS, "--masks", "-o", "images"]
    for asked in (["data", "manifest", "tiny", *PLUGINS], RUN, export, [*SUBMIT[:-1], BOARD]):
        code, said = run(folder, command(*asked))
        assert code == 0, said
        if "manifest" in asked:
            (folder / "leaderboard/suites/tiny.json").write_text(said)
    return folder


def training_in(folder, seed=0):
    """Return the folder of the training on dark patches."""
    (found,) = folder.glob(f"runs/tiny/small+jaccard/dark/seed{seed}-*")
    return found


def cache_of(arguments):
    """Return the environment of a command: what packs has its cache in its folder."""
    return {"XDG_CACHE_HOME": "cache"} if "pack" in arguments else {}


def left(folder):
    """Return the temporary files below a folder."""
    return [path for pattern in (".writing-*", ".packing-*", ".unfinished") for path in folder.rglob(pattern)]


def outputs(folder):
    """Return all that lies in a folder but for what tests keep there, and for what tells a time or a place."""
    hidden = ("log", "seen", ".lock", "environment.json", "index.json")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in hidden]
    return {re.sub("[0-9a-f]{32}", "pack", str(file.relative_to(folder))): file.read_bytes() for file in files}


def break_everywhere(run, folder, arguments, how):
    """Break a command at a write that it was not broken at before, and start it again, until it ends; return how often.

    A write is what is done (a file opened, synced, named or removed, a folder made) to a file of one name.
    """
    for tried in range(200):
        code, said = run(folder, command(*arguments, before=BREAK), BREAK=how, **cache_of(arguments))
        assert "Traceback" not in said, said
        if code == 0:
            return tried
        where = (folder / "seen").read_text().splitlines()[-1]
        assert code == HOW[how], (where, code, said)
        half = [path for path in left(folder) if path.name != ".unfinished"]
        assert how != "full" or ("No space left on device" in said and not half), (where, said)
        assert how != "read-only" or "Read-only file system" in said, (where, said)
    raise AssertionError(f"{arguments} does not come to its end")
