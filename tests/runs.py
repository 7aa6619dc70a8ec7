"""Trainings that nobody trained: facts, records and cells made of a few numbers, in memory and as a runs folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import load_file, save

from deeploc_bench.contract.seals import FIRST_KEY, checksum, write_sealed
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Code, Epoch, Term, Testing, TrainingEnvironment, TrainingFacts, identified
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.plan.recipe import load_recipe
from deeploc_bench.results.cells import Cell
from deeploc_bench.scoring.records import Records

STANDARD = ("a", "b", "c", "d")
QUICK = load_recipe("quick")
UNION = 100
"""The pixels of truth and prediction together in each image, so that an IoU is a whole number of hundredths."""


def hash_of(*texts):
    return hashlib.sha256("/".join(map(str, texts)).encode()).hexdigest()[:32]


def code(name, source="original"):
    return Code(name=name, distribution=None, version=None, source=hash_of(name, source)[:16])


def facts_of(train=(), *, kind="trained", model="net", source="original", seed=0, data="data", extra=(), **changes):
    """Return the facts of a training; `data` stands for what its images are, `extra` are test-only generators."""
    standard = changes.setdefault("standard_generators", STANDARD)
    if kind == "trained":
        changes.setdefault("recipe", QUICK)
        changes |= {
            "loss": (Term(weight=1.0, **msgspec.structs.asdict(code("jaccard"))),),
            "loss_expression": "jaccard",
        }
    if kind in ("trained", "fitted"):
        changes |= {"train": hash_of("train", train, data), "valid": hash_of("valid", train, data)}
    if kind in ("fitted", "tested"):
        changes.setdefault("testing", Testing(weights="none", precision="fp32"))
    tests = {name: hash_of(name, data) for name in (*standard, *extra)}
    return identified(
        TrainingFacts(
            kind=kind,
            suite=changes.pop("suite", "made"),
            fingerprint=changes.pop("fingerprint", hash_of("suite", data)),
            data=hash_of("standard", data),
            test_data=tests | changes.pop("test_data", {}),
            train_generators=tuple(train),
            model=code(model, source),
            seed=seed,
            **changes,
        )
    )


def histograms_of(counts):
    """Return histograms (N, 2, 256) whose sums are the counts: all pixels are as sure as can be."""
    histograms = np.zeros((len(counts), 2, 256), np.int32)
    histograms[:, [1, 0, 1, 0], [255, 255, 0, 0]] = counts[:, :4]  # tp, fp, fn, tn
    return histograms


def records_of(ious, *, fp=0, prefix="test"):
    """Return records of images with these IoUs, two images a source; `fp` of each union's pixels are false alarms."""
    tp = np.rint(np.array(ious) * UNION).astype(np.int64)
    counts = np.stack([tp, 0 * tp + fp, UNION - tp - fp, 0 * tp + 300, 0 * tp, 0 * tp], axis=1)
    return Records(
        ids=tuple(f"{prefix}-{i:02}" for i in range(len(tp))),
        sources=tuple(f"{prefix}-{i // 2}" for i in range(len(tp))),
        counts=counts,
        preds=preds_of(tp),
        histograms=histograms_of(counts),
    )


def preds_of(counts):
    """Return hashes of predicted masks, another for each image."""
    return tuple(f"{place:016x}" for place in range(len(counts)))


def authentic_of(alarms, pixels=400):
    """Return records of untouched images of which these shares are predicted as manipulated."""
    fp = np.rint(np.array(alarms) * pixels).astype(np.int64)
    counts = np.stack([0 * fp, fp, 0 * fp, pixels - fp, 0 * fp, 0 * fp], axis=1)
    names = tuple(f"test-{i:02}" for i in range(len(fp)))
    return Records(ids=names, sources=names, counts=counts, preds=preds_of(fp), histograms=histograms_of(counts))


def others(test, standard=STANDARD):
    return tuple(name for name in standard if name != test)


def cell(test, ious, *, train=None, protocol="loo", perturbation=None, authentic=None, facts=None, **changes):
    """Return a cell of a training, by default of the held-out one of its test generator."""
    if train is None:
        train = others(test, changes.get("standard_generators", STANDARD))
    is_learned = changes.get("kind", "trained") in ("trained", "fitted")
    facts = facts or facts_of(train if is_learned else (), **changes)
    return Cell(
        protocol=protocol,
        budget="full",
        pair=Pair(train_generators=tuple(train), test_generator=test),
        perturbation=perturbation,
        facts=facts,
        folder=Path("runs") / store.place_of(facts),
        records=records_of(ious),
        authentic=authentic,
    )


def row(ious, **changes):
    """Return the held-out cells of one seed, by the IoUs of each test generator's images."""
    return [cell(test, values, **changes) for test, values in ious.items()]


def edit(file, change):
    """Change the text of an artifact as nothing but a hand with the right checksum would."""
    text = file.read_text()
    if file.suffix == ".json":
        first = FIRST_KEY.decode()
        plain = change(text[0] + text[1 + len(first) :])
        place = "" if file.name == "training.json" else store.seal_place(file)
        write_sealed(file, f"{plain[0]}{first}{plain[1:]}".encode(), place)
        return
    file.write_text(change(text))
    histograms = file.with_suffix(".hist.safetensors")
    about = store.read_about(histograms, store.RecordsState, "")
    about = msgspec.structs.replace(about, table=checksum(file.read_bytes()))
    store.write_tensors(histograms, save, load_file(histograms), about)


def write_training(runs, facts, tests, *, curve=(0.25, 0.5), authentic=None):
    """Write the folder of a finished training: facts, environment, epochs, model and records; returns the folder."""
    folder = Path(runs) / store.place_of(facts)
    store.write_facts(folder, facts)
    table = ""
    if facts.kind == "trained":
        epochs = [
            Epoch(epoch=i, loss=0.5, valid_iou=value, lr=0.001, seconds=1.0) for i, value in enumerate(curve, start=1)
        ]
        table = store.write_epochs(folder, epochs)
    if facts.kind != "scored":
        store.write_environment(folder, msgspec.structs.replace(ENVIRONMENT, epochs=table))
    if facts.is_learned:
        (folder / "model.safetensors").write_bytes(b"weights")
    for name, records in {**tests, **({"authentic": authentic} if authentic else {})}.items():
        tested = store.Tested(generator=name)
        store.write_records(folder, tested, records, facts.test_data[name])
    return folder


ENVIRONMENT = TrainingEnvironment(
    device="Abacus 2000",
    torch_device="cpu",
    precision="fp32",
    threads=2,
    processes=1,
    python="3.11.0",
    platform="Linux",
    wall_seconds=12.25,
    versions={"torch": "2.7.0"},
)
