"""What `deeploc-bench speed` measured of a model, for its submission."""

from pathlib import Path

from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.files import read_json
from deeploc_bench.leaderboard.submission import Speed


class _Measured(Speed, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """One model in the output of `speed --json`, which says more than a submission holds."""

    model: str


def read_speed(file: Path, what: str) -> Speed:
    """Return what `deeploc-bench speed --json` measured of the model of `MODEL` or `MODEL+LOSS`; raises UsageError."""
    found = {one.model: one for one in read_json(file, tuple[_Measured, ...], "--speed", UsageError)}
    model = max((name for name in found if f"{what}+".startswith(f"{name}+")), key=len, default="")
    if not model:
        raise UsageError(f"--speed {file}: {unknown('model', what.partition('+')[0], found)}")
    return Speed(**{key: getattr(found[model], key) for key in Speed.__struct_fields__})
