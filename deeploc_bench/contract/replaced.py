"""Finds functions of libraries that a plugin replaces for everybody, `torch.sigmoid = mine`, and puts them back.

Whoever calls them by their name would compute something else from then on: other models, and the harness itself. A
library is looked at right after its first import, whoever imports it, so that what it was is always known.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType

TORCH = ("nn", "nn.functional", "nn.init", "optim", "autograd", "linalg", "fft", "special")
DATA = ("augment", "batches", "perturb")
TRAINING = ("baseline_fit", "build", "evaluate", "fit")
OWN = ("scoring.records", *(f"data.{name}" for name in DATA), *(f"training.{name}" for name in TRAINING))
LIBRARIES = {
    "torch": ("torch", *(f"torch.{name}" for name in TORCH)),
    "numpy": ("numpy",),
    "numpy.random": ("numpy.random",),
    "PIL.Image": ("PIL.Image",),
    **{name: (name,) for name in (f"deeploc_bench.{one}" for one in OWN)},
}
"""Modules whose first import is watched, each with those that are looked at when it ends."""
WITH_CLASSES = ("torch.nn", "torch.optim", "PIL.Image")
"""The modules whose classes are looked at, too: layers, optimizers, images."""
SPARED = ("torch.load", "torch.save", "torch.compile", "torch.Storage")
"""What many replace, and no result depends on; torch itself sets the last with its default dtype."""
MISSING = object()

Owner = ModuleType | type
Names = Mapping[str, object]
Originals = dict[Owner, Names]
"""What stands under each name of modules and classes."""


@contextmanager
def originals_kept() -> Iterator[list[str]]:
    """Put back functions that are replaced meanwhile; their names join the list that is yielded."""
    before, replaced = originals(), list[str]()
    watch = _Watch(before)
    sys.meta_path.insert(0, watch)
    try:
        yield replaced
    finally:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not watch]
        replaced += _put_back(before)


def originals() -> Originals:
    """Return what stands now under the names of all libraries that are loaded."""
    return {owner: dict(vars(owner)) for name in LIBRARIES if name in sys.modules for owner in _owners(name)}


def _owners(library: str) -> Iterator[Owner]:
    """Yield the modules of a library, with the classes that are looked at and their bases."""
    root = library.partition(".")[0]
    found: dict[Owner, None] = {}
    for name in LIBRARIES[library]:
        if module := sys.modules.get(name):
            found[module] = None
            classes = [one for one in vars(module).values() if isinstance(one, type)] if name in WITH_CLASSES else []
            for one in (*classes, module.Tensor) if name == "torch" else classes:
                found |= {base: None for base in one.__mro__ if base not in found and base.__module__.startswith(root)}
    yield from found


def _put_back(before: Originals) -> list[str]:
    """Put back what was replaced, and return its names."""
    found = []
    for owner, kept in before.items():
        now = vars(owner)
        if now == kept:  # which looks at what is the same object in no time
            continue
        for name in {**kept, **now}:
            if _is_replaced(owner, name, kept, now):
                found.append(_title(owner, name))
                setattr(owner, name, kept[name]) if name in kept else delattr(owner, name)
    return sorted(found)


def _is_replaced(owner: Owner, name: str, kept: Names, now: Names) -> bool:
    """Tell whether a function or class is another one now, or gone, or hides that of a base."""
    old, new = kept.get(name, MISSING), now.get(name, MISSING)
    if old is new or _title(owner, name) in SPARED or _is_own(owner, name, new):
        return False
    if isinstance(owner, ModuleType):
        return callable(old) and not name.startswith("_")
    if old is MISSING:
        old = next((vars(base)[name] for base in owner.__mro__[1:] if name in vars(base)), MISSING)
    return callable(old) or isinstance(old, staticmethod | classmethod | property)


def _is_own(owner: Owner, name: str, new: object) -> bool:
    """Tell whether a library itself has put a function of its code there, as torch does around steps of optimizers."""
    if not isinstance(new, FunctionType) or new.__name__ != name:
        return False
    library = sys.modules[(owner.__name__ if isinstance(owner, ModuleType) else owner.__module__).partition(".")[0]]
    return Path(str(library.__file__)).parent in Path(new.__code__.co_filename).parents


def _title(owner: Owner, name: str) -> str:
    return f"{owner.__name__ if isinstance(owner, ModuleType) else f'{owner.__module__}.{owner.__qualname__}'}.{name}"


class _Watch:
    """A finder of modules that looks at a library as soon as its import ends."""

    def __init__(self, noted: Originals) -> None:
        self.noted = noted

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders give."""
        if name not in LIBRARIES:
            return None
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        spec = next((spec for finder in others if (spec := finder.find_spec(name, path, target))), None)
        if spec and spec.loader:
            self._note_after(spec.loader, name)
        return spec

    def _note_after(self, loader: Loader, name: str) -> None:
        execute = loader.exec_module

        def execute_and_note(module: ModuleType) -> None:
            execute(module)
            self.noted.update((owner, dict(vars(owner))) for owner in _owners(name))

        loader.exec_module = execute_and_note  # type: ignore[method-assign]
