"""Small trees of the field's data sets, each with the folders, names, types and polarity of the real one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (48, 40)
PLACES = {"training": (1, 2, 3, 4), "validation": (5, 6), "testing": (7, 8, 9)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A file of a picture and one of its mask; a row of a table where the file's name goes on after a `#`."""

    image: str
    mask: str | None = None
    pixels: np.ndarray
    truth: np.ndarray | None = None
    label: int = 1


def photo(number: int) -> np.ndarray:
    """Return a photograph of its own: a smooth scene with some noise."""
    random = np.random.default_rng(number)
    scene = Image.fromarray(random.integers(40, 215, (5, 4, 3)).astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    return (np.asarray(scene) + random.integers(-3, 4, (SIZE[1], SIZE[0], 3))).clip(0, 255).astype(np.uint8)


def edit(number: int, kind: int = 0, whole: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a photograph with a region of another, and the region; all pixels changed by up to `whole` levels."""
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    top, left = 4 + 3 * (number % 5), 6 + 2 * ((number + kind) % 6)
    mask[top : top + 16, left : left + 18] = True
    random = np.random.default_rng(1000 * kind + number)
    pixels = np.where(mask[..., None], photo(5000 + 100 * kind + number), photo(number)).astype(int)
    return (pixels + random.integers(-whole, whole + 1, pixels.shape)).clip(0, 255).astype(np.uint8), mask


def edited(image: str, mask: str, number: int, kind: int = 0, whole: int = 0) -> Shot:
    pixels, truth = edit(number, kind, whole)
    return Shot(image=image, mask=mask, pixels=pixels, truth=truth)


def untouched(image: str, number: int) -> Shot:
    return Shot(image=image, pixels=photo(number), label=0)


def tgif_shots(edits: Mapping[str, tuple[str, str]], whole: int, real: str) -> Iterator[Shot]:
    """Yield TGIF's images, one photograph of training in two categories, with another mask each."""
    for place, numbers in PLACES.items():
        twice = [("cat", numbers[0])] if place == "training" else []
        for folder, number in [*product(["dog"], numbers), *twice]:
            stem = f"{number:06}_mask_bbox"
            for kind, (image, mask) in enumerate(edits.values()):
                names = (image.format(place=place, folder=folder, stem=stem), mask.format(stem=stem))
                mask = f"masks/{place}/{folder}/{names[1]}"
                yield edited(names[0], mask, number, 1 + 2 * (folder == "cat") + kind * bool(whole), whole)
            yield untouched(f"original/{place}/{folder}/{number:06}{real}", number)


def tgif() -> Iterator[Shot]:
    edits = {
        "sd2": ("SD2-sp/{place}/{folder}/{stem}.png_ps_mask.png_sd2_1.png", "{stem}.png_ps_mask.png"),
        "ps": ("PS-sp/{place}/{folder}/{stem}.png_ps_2.png", "{stem}.png_ps_mask.png"),
    }
    for shot in tgif_shots(edits, 0, "_orig.png"):  # two generators have one mask, and fill it differently
        is_second = "PS-sp" in shot.image
        yield (
            replace(shot, pixels=np.where(shot.truth[..., None], 255 - shot.pixels, shot.pixels)) if is_second else shot
        )


def tgif_fr() -> Iterator[Shot]:
    edits = {
        "sd2": ("SD2-fr/{place}/{folder}/{stem}.png_sd2-512_0.png", "{stem}_512.png"),
        "sdxl": ("SDXL-fr/{place}/{folder}/{stem}.png_sdxl-1024_0.png", "{stem}_1024.png"),
    }
    yield from tgif_shots(edits, 2, "_orig_512.png")
    yield untouched("original/testing/dog/000007_orig.png", 90)


def opensdi() -> Iterator[Shot]:
    tables = {
        "OpenSDI_train/data/sd15": (1, 2, 3, 4, 8, 25),
        "OpenSDI_test/data/sd15": (41, 42, 43),
        "OpenSDI_test/data/sd2": (31, 32, 33),
        "OpenSDI_test/data/sdxl": (34, 35, 36),
        "OpenSDI_test/data/sd3": (37,),
        "OpenSDI_test/data/flux": (38,),
    }
    for place, numbers in tables.items():
        table = f"{place}-00000-of-00001.parquet"
        for number in numbers:
            yield edited(f"{table}#partial/fake/{number:06}", "", number)
            yield untouched(f"{table}#partial/real/{number:06}", number)
            yield Shot(image=f"{table}#entire/fake/{number:06}", pixels=photo(700 + number))


def sid_set() -> Iterator[Shot]:
    for place, numbers in (("train", (1, 2, 4, 78)), ("validation", (11, 12, 13))):
        for number in numbers:
            table = f"data/{place}-00000-of-00001.parquet#"
            pixels, truth = edit(number)
            yield Shot(image=f"{table}{place}_{number:06}", pixels=pixels, truth=truth, label=2)
            yield untouched(f"{table}real_{place}_{number:06}", number)
            yield Shot(image=f"{table}made_{place}_{number:06}", pixels=photo(700 + number))


def autosplice() -> Iterator[Shot]:
    for number in (7, 12, 13, 14):
        for folder, again in product(("Forged_JPEG100", "Forged_JPEG90", "Forged_JPEG75"), range(1 + (number == 7))):
            shot = edited(f"{folder}/{number}_{again}.jpg", f"Mask/{number}_mask.png", number)
            pixels = np.where(shot.truth[..., None] & bool(again), 255 - shot.pixels, shot.pixels)
            yield Shot(image=shot.image, mask=shot.mask, pixels=pixels, truth=shot.truth)
        yield untouched(f"Authentic/{number}.jpg", number)


def cocoglide() -> Iterator[Shot]:
    for number, name in ((30, "dining table"), (4, "clock"), (71, "cat")):
        fake = f"fake/glide_inpainting_val2017_{number}_up.png"
        yield edited(fake, f"mask/{name}_{number}_mask.png", number, whole=2)
        yield untouched(f"real/{name}_{number}.png", number)


def br_gen() -> Iterator[Shot]:
    for number in (1, 2, 7, 3, 4, 8, 32, 89):
        name = f"COCO_{number:011}"
        for kind, generator in enumerate(("LaMa", "MAT", "SDXL", "BrushNet", "PowerPaint")):
            stem = f"{generator}_Stuff_{name}"
            pixels, truth = edit(number)
            pixels = np.where(truth[..., None], np.roll(pixels, 9 * kind, 2) // (1 + kind), pixels)
            yield Shot(image=f"Tp/{stem}.png", mask=f"Gt/{stem}_mask.png", pixels=pixels, truth=truth)
        yield untouched(f"Au/{name}.png", number)


def casia() -> Iterator[Shot]:
    for number in (1, 2, 5, 3, 4, 59, 72, 101):
        stem = f"Tp_D_CRN_S_N_cha00063_art{number:05}_1{number:04}"
        yield edited(f"Tp/{stem}.{'tif' if number % 2 else 'jpg'}", f"CASIA 2 Groundtruth/{stem}_gt.png", number)
        yield untouched(f"Au/Au_art_{number:05}.jpg", number)


def casia_v1() -> Iterator[Shot]:
    for number in (3, 5, 8, 9):
        folder, kind, donor = ("Sp", "D", 56) if number % 2 else ("CM", "S", number)
        stem = f"Sp_{kind}_CND_A_sec{donor:04}_sec{number:04}_0{number:03}"
        yield edited(f"Tp/{folder}/{stem}.jpg", f"CASIA 1.0 groundtruth/{folder}/{stem}_gt.png", number)
        yield untouched(f"Au/Au_sec_{number:04}.jpg", number)


def columbia() -> Iterator[Shot]:
    for number in (1, 2, 3):
        stem = f"canong3_canonxt_sub_{number:02}"
        yield edited(f"4cam_splc/{stem}.tif", f"4cam_splc/edgemask/{stem}_edgemask.jpg", number)
        yield Shot(image=f"4cam_splc/edgemask/{stem}_edgemask_3.jpg", pixels=photo(60 + number))
        yield untouched(f"4cam_auth/canong3_{number:02}_sub_01.tif", 50 + number)


def coverage() -> Iterator[Shot]:
    for number in (1, 2, 10, 11):
        yield edited(f"image/{number}t.tif", f"mask/{number}forged.tif", number)
        yield untouched(f"image/{number}.tif", number)
        yield Shot(image=f"mask/{number}copy.tif", pixels=photo(60 + number))


def nist16() -> Iterator[Shot]:
    for number in (820, 1956, 2490, 5169):
        image, mask = f"probe/NC2016_{number:04}.jpg", f"reference/manipulation/mask/NC2016_{number + 1:04}.png"
        yield edited(image, mask, number)
        yield untouched(f"probe/NC2016_{number + 2:04}.jpg", number)


def imd2020() -> Iterator[Shot]:
    for number in (1, 3, 4, 2, 12, 5, 24):
        folder = f"p{number:03}"
        for again in (0, 1):
            stem = f"{folder}/c{number}{again}_0"
            yield edited(f"{stem}.{'png' if again else 'jpg'}", f"{stem}_mask.png", number, again)
        yield untouched(f"{folder}/{folder}_orig.jpg", number)


Shots = Callable[[], Iterator[Shot]]
TREES: Mapping[str, Shots] = {
    "autosplice": autosplice,
    "br-gen": br_gen,
    "casia": casia,
    "casia-v1": casia_v1,
    "cocoglide": cocoglide,
    "columbia": columbia,
    "coverage": coverage,
    "imd2020": imd2020,
    "nist16": nist16,
    "opensdi": opensdi,
    "sid-set": sid_set,
    "tgif": tgif,
    "tgif-fr": tgif_fr,
}
"""The images of each suite's tree."""


def encoded(pixels: np.ndarray, name: str) -> bytes:
    content = io.BytesIO()
    kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(Path(name).suffix, "PNG")
    quality = next((int(level) for level in ("90", "75") if f"JPEG{level}" in name), 96)
    Image.fromarray(pixels).save(content, kind, **({"quality": quality, "subsampling": 0} if kind == "JPEG" else {}))
    return content.getvalue()


def mask_pixels(suite: str, truth: np.ndarray) -> np.ndarray:
    """Return a mask as its data set has it: white or black where edited, or green, darker away from the border."""
    if suite == "columbia":
        border = np.zeros_like(truth)
        border[:, 20:28] = True
        level = np.where(border, 255, 200)
        return np.stack([np.where(truth, 0, level), np.where(truth, level, 0), 0 * level], axis=2).astype(np.uint8)
    return np.where(truth ^ (suite == "nist16"), 255, 0).astype(np.uint8)


@dataclass(slots=True, kw_only=True)
class Stored:
    """What will stand in a file, or in a row: a test may change it before it is written."""

    shot: Shot
    image: bytes
    mask: bytes | None


def stored(suite: str) -> list[Stored]:
    return [
        Stored(
            shot=shot,
            image=encoded(shot.pixels, shot.image),
            mask=None if shot.truth is None else encoded(mask_pixels(suite, shot.truth), shot.mask or ""),
        )
        for shot in TREES[suite]()
    ]


def write(root: Path, suite: str, all_stored: list[Stored]) -> Path:
    """Write a tree, with the table that its suite has."""
    tables: dict[str, list[Stored]] = {}
    for one in all_stored:
        table, is_row, _ = one.shot.image.partition("#")
        if is_row:
            tables.setdefault(table, []).append(one)
            continue
        for name, content in ((one.shot.image, one.image), (one.shot.mask, one.mask)):
            if name and content is not None:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
    for table, rows in tables.items():
        id = "img_id" if suite == "sid-set" else "key"
        named = [(row.shot.image.partition("#")[2], row) for row in rows]
        write_rows(
            root / table,
            [{id: name, "image": row.image, "mask": row.mask, "label": row.shot.label} for name, row in named],
        )
    if suite in ("cocoglide", "nist16"):
        write_list(root, suite, [one.shot for one in all_stored])
    return root


def write_rows(file: Path, rows: list[dict[str, object]], group: int = 2) -> None:
    """Write rows as Hugging Face's `datasets` does: pictures are structs of bytes and a path."""
    import pyarrow
    from pyarrow import parquet

    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        is_picture = any(isinstance(value, bytes) for value in values)
        wrapped = [value and {"bytes": value, "path": None} for value in values] if is_picture else values
        columns[name] = pyarrow.array(wrapped, picture if is_picture else None)
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), file, row_group_size=group)


def write_list(root: Path, suite: str, shots: list[Shot]) -> None:
    pairs = list(zip(shots[::2], shots[1::2], strict=True))
    if suite == "cocoglide":
        rows = ["\ufeffreal,fake,mask,prompt"]
        rows += [f"{real.image},{fake.image},{fake.mask},a prompt" for fake, real in pairs]
        (root / "table.csv").write_text("\n".join(rows), "utf-8")
        return
    rows = ["TaskID|ProbeFileName|ProbeMaskFileName|BaseFileName|IsTarget"]
    for fake, real in pairs:
        rows.append(f"manipulation|{fake.image}|{fake.mask}|world/{Path(real.image).stem}.jpg|Y")
        rows.append(f"manipulation|{real.image}||world/{Path(real.image).stem}.jpg|N")
    (root / "reference/manipulation/NC2016-manipulation-ref.csv").write_text("\n".join(rows))
