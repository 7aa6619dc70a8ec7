"""What a submission must hold of the data it was tested on: against the manifest of its suite, and count by count."""

from collections.abc import Mapping, Sequence

import numpy as np

from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.data.suites import ManifestGenerator
from deeploc_bench.leaderboard.checks import Case, Findings
from deeploc_bench.scoring.records import Records


def check_suite(case: Case) -> Findings:
    """Check that fingerprint, generators, ids, sources and pixels are those of the suite's manifest."""
    evidence, manifest = case.evidence, case.manifest
    if manifest is None:
        return
    cure = f"see 'deeploc-bench data manifest {evidence.suite}'"
    known = (manifest.fingerprint, manifest.fingerprint_of(evidence.ids))
    if manifest.fingerprint is not None and evidence.fingerprint not in known:
        message = f"trained on data {evidence.fingerprint}, the suite's is {manifest.fingerprint}; {cure}"
        yield Finding(check="fingerprint", message=message)
    standard = tuple(sorted(name for name, part in manifest.generators.items() if part.role == "standard"))
    yield from _as_in_manifest("generators", "generators", evidence.generators, standard, cure)
    for name, ids in evidence.ids.items():
        if name in manifest.generators:
            sources, pixels = evidence.sources[name], evidence.pixels[name]
            yield from check_images(name, manifest.generators[name], ids, sources, pixels, cure)
        else:
            yield Finding(check="generators", message=f"{name} is not a generator of suite {evidence.suite}; {cure}")


def check_images(
    name: str, part: ManifestGenerator, ids: Sequence[str], sources: Sequence[str], pixels: Sequence[int], cure: str
) -> Findings:
    """Check that the test images of a generator are those of its manifest, or what is known of them without a list."""
    if part.test is None:
        yield from _as_known(name, part, ids, sources, pixels)
        return
    for check, values, expected in (
        ("ids", ids, [image.id for image in part.test]),
        ("sources", sources, [image.source for image in part.test]),
        ("pixels", pixels, [image.pixels for image in part.test]),
    ):
        yield from _as_in_manifest(check, f"{check} of {name}", values, expected, cure)


def check_areas(case: Case) -> Findings:
    """Check that tp + fn is the area of each mask, and that no more pixels are counted than there are."""
    areas = _mask_areas(case)
    for title, pair, found in case.of_each_training():
        test = pair.test_generator
        ids, counted, pixels = case.evidence.ids[test], (found.tp + found.fn).tolist(), found.pixels.tolist()
        if counted != areas[test]:
            wrong = [place for place, count in enumerate(counted) if count != areas[test][place]]
            first = f"{ids[wrong[0]]} is {counted[wrong[0]]}, its mask has {areas[test][wrong[0]]} pixels"
            yield Finding(check="area", message=f"{title}: tp + fn of {first} ({len(wrong)} such images)")
        over = np.flatnonzero(found.tn < 0).tolist()
        if over:
            first = f"{ids[over[0]]} is {pixels[over[0]] - int(found.tn[over[0]])}, it has {pixels[over[0]]} pixels"
            yield Finding(check="pixels", message=f"{title}: tp + fp + fn of {first} ({len(over)} such images)")


def check_predictions(case: Case) -> Findings:
    """Check that equal hashes are of predicted masks of one size and area, as hashes of equal masks are."""
    for title, pair, found in case.of_each_training():
        place = _other_mask(found)
        if place is not None:
            id, pred = case.evidence.ids[pair.test_generator][place], found.preds[place]
            message = f"{title}: pred {pred} of {id} is another image's, whose predicted mask has not as many pixels"
            yield Finding(check="pred", message=message)


def _other_mask(records: Records) -> int | None:
    """Return the place of the first image whose hash stands before it for a mask of another size or area."""
    first: dict[str, tuple[int, int]] = {}
    masks = zip((records.tp + records.fp).tolist(), records.pixels.tolist(), strict=True)
    for place, (pred, mask) in enumerate(zip(records.preds, masks, strict=True)):
        if first.setdefault(pred, mask) != mask:
            return place
    return None


def _mask_areas(case: Case) -> Mapping[str, list[int]]:
    """Return the mask areas of the manifest; where it lists no images, those that the first training gives."""
    parts = case.manifest.generators if case.manifest else {}
    listed = {test: parts[test].test for test in case.evidence.ids if test in parts}
    areas = {test: [image.mask_area for image in images] for test, images in listed.items() if images is not None}
    areas.setdefault(AUTHENTIC, [0] * len(case.evidence.ids.get(AUTHENTIC, ())))
    for _, pair, found in case.of_each_training():
        if pair.test_generator not in areas:
            areas[pair.test_generator] = (found.tp + found.fn).tolist()
    return areas


def _as_known(
    name: str, part: ManifestGenerator, ids: Sequence[str], sources: Sequence[str], pixels: Sequence[int]
) -> Findings:
    """Check what a manifest knows of images that it does not list: how many, their pixels, and how ids are made."""
    due = part.splits.get("test")
    if due and len(ids) != due.samples:
        yield Finding(check="ids", message=f"{name} has {len(ids)} test images, the manifest tells of {due.samples}")
    if part.endings is not None and (strange := _not_ending(ids, sources, part.endings or ("",))):
        known = f" and one of {', '.join(part.endings)}" if part.endings else ""
        yield Finding(check="ids", message=f"ids of {name}: {strange!r} is not its source{known}")
    if part.pixels is not None and set(pixels) - {part.pixels}:
        other = next(count for count in pixels if count != part.pixels)
        message = f"{name} has an image of {other} pixels, in the manifest all have {part.pixels}"
        yield Finding(check="pixels", message=message)


def _not_ending(ids: Sequence[str], sources: Sequence[str], endings: Sequence[str]) -> str | None:
    """Return the first id that is not its source and one of the endings."""
    made = zip(ids, ([source + ending for ending in endings] for source in sources), strict=True)
    return next((id for id, possible in made if id not in possible), None)


def _as_in_manifest(check: str, what: str, values: Sequence[object], expected: Sequence[object], cure: str) -> Findings:
    if [*values] == [*expected]:  # as almost always
        return
    differing = (place for place, (value, other) in enumerate(zip(values, expected, strict=False)) if value != other)
    place = next(differing, None)
    told = f"{len(values)}, the manifest has {len(expected)}"
    if place is not None:
        told = f"number {place + 1} is {values[place]!r}, the manifest has {expected[place]!r}"
    yield Finding(check=check, message=f"{what} are not those of the suite's manifest: {told}; {cure}")
