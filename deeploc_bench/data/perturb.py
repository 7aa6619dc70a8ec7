"""Perturbations of test images, seeded by each image's id: what an image goes through before anybody examines it."""

import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.specs import Image


def jpeg(image: Image, value: float, id: str) -> Image:
    """Compress by JPEG of quality `value`, as Pillow does by default, and decode again."""
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=int(value))
    return np.array(Pillow.open(buffer), dtype=np.uint8)


def blur(image: Image, value: float, id: str) -> Image:
    """Blur by a Gaussian of sigma `value` pixels, as the augmentation does."""
    import torch

    from deeploc_bench.data.augment import blur_some, to_float

    blurred = blur_some(to_float(torch.from_numpy(image)[None]), torch.tensor([value]))  # (1, 3, H, W)
    return blurred[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()


def noise(image: Image, value: float, id: str) -> Image:
    """Add Gaussian noise of standard deviation `value`, in shares of full scale, independent in each channel."""
    seed = int.from_bytes(hashlib.blake2b(id.encode(), digest_size=4).digest(), "big")
    noisy = image + np.random.RandomState(seed).normal(0, 255 * value, image.shape)  # a frozen stream (NEP 19)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def resize(image: Image, value: float, id: str) -> Image:
    """Resize by the factor `value`, and back to the native size, bilinear with antialiasing."""
    height, width = image.shape[:2]
    small = (max(1, round(width * value)), max(1, round(height * value)))
    picture = Pillow.fromarray(image).resize(small, Pillow.Resampling.BILINEAR)
    return np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of perturbation and the values it takes."""

    apply: Callable[[Image, float, str], Image]
    low: float
    high: float
    is_whole: bool = False


KINDS: Mapping[str, Kind] = {
    "jpeg": Kind(apply=jpeg, low=1, high=100, is_whole=True),
    "blur": Kind(apply=blur, low=0.1, high=10),
    "noise": Kind(apply=noise, low=0.001, high=1),
    "resize": Kind(apply=resize, low=0.05, high=4),
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Perturbation:
    """One perturbation: its kind, a key of KINDS, and its value."""

    kind: str
    value: float

    @property
    def name(self) -> str:
        """Return the name that records carry, such as `jpeg-75`."""
        return f"{self.kind}-{self.value:.10g}"

    def apply(self, images: NDArray[np.uint8], ids: Sequence[str]) -> NDArray[np.uint8]:
        """Return images, uint8 (N, H, W, 3), each perturbed as its id says."""
        apply = KINDS[self.kind].apply
        return np.stack([apply(image, self.value, id) for image, id in zip(images, ids, strict=True)])


def parse_perturbation(text: str, separator: str = ":") -> Perturbation:
    """Return the perturbation of a `KIND:VALUE`, or of the `KIND-VALUE` of records; raises UsageError."""
    name, _, number = text.partition(separator)
    if name not in KINDS:
        raise UsageError(f"--perturb {text!r}: {unknown('kind', name, KINDS)} Write for example jpeg:75.")
    kind, value = KINDS[name], math.nan
    with suppress(ValueError):
        value = float(number)
    if not kind.low <= value <= kind.high or (kind.is_whole and value != int(value)):
        what = "a whole number" if kind.is_whole else "a number"
        raise UsageError(f"--perturb {text!r}: {name} takes {what} from {kind.low:g} to {kind.high:g}")
    return Perturbation(kind=name, value=float(f"{value:.10g}"))  # what its name says
