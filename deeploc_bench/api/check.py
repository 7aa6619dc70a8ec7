"""`check`: whether models, losses and suites hold the contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeploc_bench.api import session
from deeploc_bench.conformance import checking
from deeploc_bench.contract.specs import Spec


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Conformance:
    """What came of the checks of some models, losses and suites; printed, it is the lines of the command."""

    checked: tuple[checking.Checked, ...]

    @property
    def is_ok(self) -> bool:
        """Tell whether no check failed."""
        return all(checked.is_ok for checked in self.checked)

    def __repr__(self) -> str:
        return "\n".join(checked.text for checked in self.checked)

    def rows(self) -> list[dict[str, str]]:
        """Return a plain dict for each check: of what, its name, what it does, its level, and what it found."""
        return [
            {
                "name": checked.name,
                "check": result.check,
                "does": result.does,
                "level": result.level,
                "found": "\n".join(map(str, result.findings)),
            }
            for checked in self.checked
            for result in checked.results
        ]


def check(
    what: str | Path | Spec, *, plugins: Sequence[str | Path] = (), data: str | Path | None = None
) -> Conformance:
    """Try a model, a loss or a suite on a few small images: by name, by its spec, or all of a plugin's file or module.

    `data` is the folder of a suite's images. Raises UsageError where nothing is called so, PluginError where a plugin
    that was asked for is broken.
    """
    asked = str(what) if isinstance(what, Path) else what
    with session.quiet():
        registry = session.load(session.requested([str(plugin) for plugin in plugins]))
        found = checking.check(
            asked, plugins=list(map(str, plugins)), data=str(data) if data else None, registry=registry
        )
        return Conformance(checked=tuple(found))
