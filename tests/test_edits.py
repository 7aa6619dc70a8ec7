"""Whether the edit is where the mask is: mistakes planted in the embedded suite are told apart, sound sets are left."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from deeploc_bench.contract.specs import AUTHENTIC, Sample
from deeploc_bench.data.edits import edit_findings
from deeploc_bench.data.packs import pack
from deeploc_bench.data.suites import Generator, Suite


@pytest.fixture(scope="module")
def photos(registry):
    return {owned.spec.name: owned.spec.build()["test"] for owned in registry.suite("photos")}


@pytest.fixture
def found(photos):
    """Return a function from a change of ddpm's images and masks, and other generators, to what is found in all."""

    def find(change, *beside, read=None):
        kept = {name: photos[name] for name in ("ddpm", *beside)}
        read = read or (lambda samples: [(one.image(), one.mask()) for one in samples])
        changed = [change(image, mask) for image, mask in read(photos["ddpm"])]
        kept["ddpm"] = [
            Sample(id=one.id, source=one.source, image=image.copy, mask=mask.copy)
            for one, (image, mask) in zip(photos["ddpm"], changed, strict=True)
        ]
        packs = {name: pack(one, inverted=False, folder=None, tick=lambda: None) for name, one in kept.items()}
        made = {
            name: Generator(name=name, role="test-only" if name == AUTHENTIC else "standard", splits={"test": one})
            for name, one in packs.items()
        }
        return [finding.line for finding in edit_findings(Suite(name="made", generators=made))]

    return find


def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=60)
    return np.array(Image.open(file))


def resampled(image):
    height, width = image.shape[:2]
    smaller = Image.fromarray(image).resize((width * 9 // 10, height * 9 // 10))
    return np.array(smaller.resize((width, height)))


def moved(mask, down, right):
    """Move a mask; what leaves the image is lost."""
    padded = np.pad(mask, 20)
    return padded[20 - down : 20 - down + mask.shape[0], 20 - right : 20 - right + mask.shape[1]]


def others_masks(samples):
    turned = [*samples[37:], *samples[:37]]
    return [(one.image(), other.mask()) for one, other in zip(samples, turned, strict=True)]


def test_spliced_images_are_told_and_nothing_is_wrong_with_them(found):
    assert found(lambda image, mask: (image, mask), AUTHENTIC) == [
        "note [spliced] ddpm: 16 of 16 compared images equal the authentic ones outside the masks"
    ]


@pytest.mark.parametrize("change", [jpeg, resampled])
def test_images_that_are_saved_again_are_told_as_regenerated_and_nothing_is_wrong_with_them(found, change):
    (line,) = found(lambda image, mask: (change(image), mask), AUTHENTIC)
    assert line.startswith("note [regenerated] ddpm: 16 compared images differ by ")


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


WRONG = {
    "inverted": (lambda image, mask: (image, ~mask), "masks are inverted (state inverted_masks"),
    "inverted and recompressed": (lambda image, mask: (jpeg(image), ~mask), "masks are inverted (state inverted_masks"),
    "shifted": (lambda image, mask: (image, moved(mask, 0, 4)), "they fit once moved 4 pixels left"),
    "shifted twice": (lambda image, mask: (image, moved(mask, 7, -9)), "once moved 9 pixels right and 7 pixels up"),
    "mirrored": (lambda image, mask: (image, mask[:, ::-1]), "masks are mirrored"),
    "transposed": (lambda image, mask: (image, mask.T), "masks are transposed"),
    "BGR": (lambda image, mask: (image[..., ::-1], mask), "red and blue are swapped between its images and"),
}


@pytest.mark.parametrize("beside", [(AUTHENTIC,), slow(("cyclegan", "patchmatch"))], ids=["authentic", "others"])
@pytest.mark.parametrize("what", ["inverted", "shifted", "BGR"])
def test_a_mistake_is_told_by_authentic_images_or_by_other_generators(found, what, beside):
    change, words = WRONG[what]
    (line,) = [line for line in found(change, *beside) if not line.startswith("note")]
    assert line.startswith("error [edit] ddpm/test: ") and words in line


@pytest.mark.parametrize(
    "what", ["inverted and recompressed", "shifted twice", *(slow(one) for one in ("mirrored", "transposed"))]
)
def test_what_masks_are_is_told(found, what):
    change, words = WRONG[what]
    (line,) = found(change, AUTHENTIC)
    assert line.startswith("error [edit] ddpm/test: as the authentic images show, ") and words in line


def test_masks_in_another_order_are_told_with_the_image_they_belong_to(found, photos):
    (line,) = found(lambda image, mask: (image, mask), AUTHENTIC, read=others_masks)
    image, place = photos["ddpm"][0].id, len(photos["ddpm"]) - 37
    assert f"{image} is edited where the mask of {photos['ddpm'][place].id} is; pair them by name" in line


def test_images_that_nobody_edited_are_told(found, photos):
    untouched = [one.image() for one in photos[AUTHENTIC]]

    def authentic(samples):
        return [(image, one.mask()) for image, one in zip(untouched, samples, strict=True)]

    told = "error [edit] ddpm/test: nothing is edited; its images equal the authentic ones"
    assert found(lambda image, mask: (image, mask), AUTHENTIC, read=authentic) == [told]
    (line,) = found(lambda image, mask: (jpeg(image), mask), AUTHENTIC, read=authentic)
    assert line.startswith("warning [elsewhere] ddpm/test: its images differ from the authentic images by ")


def test_images_of_another_scene_are_not_compared(found, photos):
    def others(samples):
        return [(one.image(), one.mask()) for one in [*samples[37:], *samples[:37]]]

    assert found(lambda image, mask: (image, mask), "patchmatch", read=others) == []
