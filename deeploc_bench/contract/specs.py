"""The specs that plugins return: frozen values that describe, and build nothing until asked."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.errors import PluginError

Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3), RGB
Mask: TypeAlias = NDArray[np.bool_]  # (H, W), True = manipulated
Split: TypeAlias = Literal["train", "valid", "test"]
Role: TypeAlias = Literal["standard", "test-only"]

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
NAME_PATTERN = r"\A[a-z0-9][a-z0-9._-]{0,95}\Z"
MODEL_PATTERN = r"\A(?=.{1,96}\Z)[a-z0-9][a-z0-9._-]*(\+[a-z0-9][a-z0-9._-]*)*\Z"
"""A model that is made of another, as `srm+unet-resnet18` is, has a `+` in its name; no other has."""
ID_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z"
PARAMETER_PATTERN = r"\A[a-z][a-z0-9_]{0,63}\Z"
NAME_RULE = "lower-case letters, digits, '.', '_' and '-', at most 96, the first a letter or digit"
ID_RULE = "letters, digits, '.', '_' and '-', at most 200, the first a letter or digit"
PARAMETER_RULE = "lower-case letters, digits and '_', at most 64, the first a letter"
MODEL_RULE = f"{NAME_RULE}; with '+' where it is made of another model"
MODEL_OVERRIDES = ("batch_size", "input_size", "lr", "optimizer")
COLORS = ("red", "green", "blue")
AUTHENTIC = "authentic"
"""The test-only generator dataset of a suite's untouched images, if the suite has one."""
REGENERATED = "masks say where the edit was asked for; other pixels changed, too"
"""What is told of a generator dataset whose images were made anew as a whole."""
OWN = "own"
"""What a loss expression calls the loss that a model brings itself, its module's `training_loss`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contained:
    """A picture within a larger file, such as a row of a table: `read()` returns what a PNG, a JPEG, ... would hold.

    `place` tells where in `file` it is; what was read is kept in the cache for as long as the file is as it was.
    """

    file: Path
    place: str
    read: Callable[[], bytes]

    def __str__(self) -> str:
        return f"{self.file}, {self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One manipulated (or authentic) image with its mask.

    `id` is unique within a split; equal ids in two generators of a suite mean the same source and the same region.
    `source` names the pristine image the sample was made from. `image` is a file that Pillow reads, one `Contained` in
    a larger file, or a callable that returns uint8 RGB of shape (H, W, 3). `mask` is either kind of file (above 127.5 =
    manipulated, where `mask_above`, `mask_color` and `inverted_masks` of the generator dataset do not say otherwise), a
    callable that returns bool of shape (H, W), True = manipulated, or None for an authentic image.
    """

    id: str
    source: str
    image: Path | Contained | Callable[[], Image]
    mask: Path | Contained | Callable[[], Mask] | None

    def __post_init__(self) -> None:
        for what, value in (("id", self.id), ("source", self.source)):
            if not isinstance(value, str) or not re.fullmatch(ID_PATTERN, value):
                raise PluginError(f"sample {what} is {value!r:.250}; expected {ID_RULE}")


Samples: TypeAlias = Mapping[Split, Sequence[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorDataset:
    """The images, masks and splits of one generator.

    `build` returns the samples of each split: `build()`, or `build(data)` with the folder given by `--data` where
    `needs_data` says what that folder is. `role` is `standard`, or `test-only` (tested by every training, never
    trained on, never left out; needs no more than a test split). The test-only dataset named `authentic` holds a
    suite's authentic images, whose samples have no mask. `mask_above` is the level, 0 to 255, above which a pixel of a
    mask file is manipulated, for masks of few levels such as 0 and 1; `mask_color` is `red`, `green` or `blue` where a
    pixel of it is manipulated that is clearly more of this than of the others; with `inverted_masks` the others are.
    `regenerated=True` says that the generator made the whole images, not only what the masks cover. `method` is
    the generator it is made by, where that is another name's; by default its own name: a test-only dataset of a method
    that was trained on is seen, not held out. `default_model` and `default_recipe` are what `run` takes for the suite
    where it is asked for nothing else; one dataset of a suite that names them is enough.
    """

    name: str
    suite: str
    build: Callable[..., Samples]
    role: Role = "standard"
    needs_data: str | None = None
    inverted_masks: bool = False
    mask_above: float | None = None
    mask_color: str | None = None
    regenerated: bool = False
    method: str | None = None
    reference: str | None = None
    license: str | None = None
    default_model: str | None = None
    default_recipe: str | None = None

    def __post_init__(self) -> None:
        _check_common(self, "generator dataset")
        _check_name(self.suite, f"suite of generator dataset {self.name!r}")
        if self.method is not None:
            _check_name(self.method, f"method of generator dataset {self.name!r}")
        if self.role not in ("standard", "test-only"):
            raise PluginError(f"generator dataset {self.name!r} has role {self.role!r}; allowed: standard, test-only")
        above = 127.5 if self.mask_above is None else self.mask_above
        if not isinstance(above, int | float) or not 0 <= above < 255:
            raise PluginError(f"generator dataset {self.name!r} has mask_above={above!r:.80}; expected 0 to below 255")
        if self.mask_color not in (None, *COLORS) or (self.mask_color and self.mask_above is not None):
            raise PluginError(
                f"generator dataset {self.name!r} has mask_color={self.mask_color!r:.80} and mask_above="
                f"{self.mask_above!r}; allowed: {', '.join(COLORS)}, without mask_above"
            )
        if self.name == AUTHENTIC and self.role != "test-only":
            raise PluginError(f"generator dataset {AUTHENTIC!r} must have role 'test-only'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """Another suite, `name` as `--suite` says it, all of whose generators stand in `suite` too."""

    suite: str
    name: str

    def __post_init__(self) -> None:
        _check_name(self.suite, "suite of an inclusion")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A localizer: builds an `nn.Module` from float RGB in [0, 1], (N, 3, H, W), H, W >= 32, to logits (N, 1, H, W).

    `reference` is an address or None. `pretraining` is `"none"` (from scratch: `build()`), a word for general images
    such as `"imagenet"` (then `build(weights)` gets `"default"`, the path of a safetensors file, or None), or None =
    unknown. `recipe` overrides recipe keys out of batch_size, input_size, lr and optimizer. Where its module has a
    method `training_loss(images, masks)` that returns a scalar, a loss expression may name it, `own`; masks are float32
    (N, 1, H, W), 1 = manipulated.

    `trainable=False` is a detector that is only tested. Its `weights` are a file, an absolute path, that `build` gets;
    the hash of the file is part of what identifies its tests. `trained_on` are the generators or methods that it was
    trained on, () where these are of no suite, None = not declared: then nothing is held out for it. `description` is
    the file, an absolute path, that a model was read from: its content counts as the model's code.

    `baseline=True` is a model that tells how much can be had without looking for edits: it stands beside every row, and
    is never ranked. A baseline that is trainable fits itself, without loss or recipe: what its `build` returns has a
    method `fit(train, valid)`. Both are batches of (images, masks), in a fixed order, which can be gone through again
    and again; images are float32 (N, 3, H, W) in [0, 1] of native size, masks float32 (N, 1, H, W), 1 = manipulated.
    What it learns must lie in parameters or buffers that `build` makes, of their shape.
    """

    name: str
    build: Callable[..., Any]
    reference: str | None
    pretraining: str | None
    license: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    trainable: bool = True
    baseline: bool = False
    weights: Path | str | None = None
    trained_on: Sequence[str] | None = None
    description: Path | None = None

    def __post_init__(self) -> None:
        _check_common(self, "model")
        if self.pretraining is not None and not isinstance(self.pretraining, str):
            raise PluginError(f"model {self.name!r} has pretraining {self.pretraining!r}; expected a word or None")
        if not isinstance(self.recipe, Mapping) or not set(self.recipe) <= set(MODEL_OVERRIDES):
            raise PluginError(
                f"model {self.name!r} has recipe {self.recipe!r}; a model may set only {', '.join(MODEL_OVERRIDES)}"
            )
        _check_detector(self)

    @property
    def fits_itself(self) -> bool:
        """Tell whether it is a baseline that its own method `fit` fits, without loss or recipe."""
        return self.baseline and self.trainable

    @property
    def is_detector(self) -> bool:
        """Tell whether it was trained elsewhere and is only tested."""
        return not self.baseline and not self.trainable


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A training loss: `build()` returns a callable from logits and float masks, both (N, 1, H, W), to a scalar.

    `parameters` are the names and defaults of the numbers that a loss expression may set, `focal(gamma=3)`; then it is
    `build(gamma=3.0, ...)`, with all of them. A default that is a whole number takes whole numbers only; None is no
    number unless one is set. What is built may be an `nn.Module`; it is moved to the device, and trains nothing itself.
    """

    name: str
    build: Callable[..., Callable[..., Any]]
    reference: str | None = None
    license: str | None = None
    parameters: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_common(self, "loss")
        if self.name == OWN:
            raise PluginError(f"a loss is called {OWN!r}, which stands for a model's own training_loss; rename it")
        if not isinstance(self.parameters, Mapping):
            raise PluginError(
                f"loss {self.name!r} has parameters {self.parameters!r:.120}; expected names and defaults"
            )
        for name, default in self.parameters.items():
            _check_parameter(self.name, name, default)


Spec: TypeAlias = GeneratorDataset | Model | Loss


def _check_common(spec: Spec, kind: str) -> None:
    _check_name(spec.name, f"name of {kind}", *((MODEL_PATTERN, MODEL_RULE) if isinstance(spec, Model) else ()))
    if not callable(spec.build):
        raise PluginError(f"{kind} {spec.name!r} has build={spec.build!r}; expected a callable")
    for what, value in (("reference", spec.reference), ("license", spec.license)):
        if value is not None and not isinstance(value, str):
            raise PluginError(f"{kind} {spec.name!r} has {what}={value!r}; expected text or None")


def _check_detector(model: Model) -> None:
    """Check what only a detector has: the file of its weights, and what it was trained on."""
    where, weights, trained_on = f"model {model.name!r}", model.weights, model.trained_on
    for what, value in (("weights", weights), ("trained_on", trained_on)):
        if value is not None and not model.is_detector:
            raise PluginError(
                f"{where} declares {what}, which only a detector has that was trained elsewhere: say trainable=False, "
                "without baseline. What is trained here takes its initial weights by --set weights=FILE."
            )
    if weights is not None and not (isinstance(weights, Path | str) and Path(weights).is_absolute()):
        raise PluginError(
            f"{where} has weights {weights!r:.250}; expected an absolute path, such as "
            "Path(__file__).with_name('detector.safetensors')"
        )
    if isinstance(trained_on, str) or not isinstance(trained_on, Sequence | None):
        raise PluginError(f"{where} has trained_on {trained_on!r:.120}; expected a list of generators, () or None")
    for name in trained_on or ():
        _check_name(name, f"trained_on of {where}")


def _check_parameter(loss: str, name: object, default: object) -> None:
    if not isinstance(name, str) or not re.fullmatch(PARAMETER_PATTERN, name):
        raise PluginError(f"a parameter of loss {loss!r} is {name!r:.120}; expected {PARAMETER_RULE}")
    is_number = isinstance(default, int | float) and not isinstance(default, bool) and isfinite(default)
    if default is not None and not is_number:
        raise PluginError(f"parameter {name!r} of loss {loss!r} has the default {default!r:.120}; expected a number")


def _check_name(name: object, what: str, pattern: str = NAME_PATTERN, rule: str = NAME_RULE) -> None:
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise PluginError(f"{what} is {name!r:.120}; expected {rule}")
