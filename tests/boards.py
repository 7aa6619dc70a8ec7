# ruff: noqa: E501
"""A leaderboard folder made of synthetic submissions, small or large."""

from __future__ import annotations

import json

import msgspec
import numpy as np

from deeploc_bench.contract.files import to_json
from deeploc_bench.leaderboard import claims
from deeploc_bench.leaderboard.submission import Evidence, Submission
from deeploc_bench.plan.recipe import named_recipes

GENERATORS = ("lama", "ldm", "pluralistic")
PIXELS = 4096


def scene(images, generators=GENERATORS):
    """Return the ids, the sources, and the mask areas of each generator of a suite."""
    random = np.random.default_rng(0)
    ids = [f"image-{i:04}" for i in range(images)]
    sources = [f"photo-{i // 2:04}" for i in range(images)]
    return ids, sources, {name: random.integers(200, 1500, images) for name in generators}


def manifest(images, generators=GENERATORS):
    ids, sources, areas = scene(images, generators)

    def listed(role, areas):
        rows = zip(ids, sources, areas.tolist(), strict=True)
        return {
            "role": role,
            "test": [{"id": i, "source": s, "mask_area": a, "pixels": PIXELS} for i, s, a in rows],
        }

    return {
        "schema": 1,
        "suite": "synthetic",
        "fingerprint": "f" * 32,
        "generators": {name: listed("standard", part) for name, part in areas.items()}
        | {"authentic": listed("test-only", np.zeros(images, np.int64))},
    }


def counts(random, areas):
    """Return records: a share of each mask found, some false alarms."""
    tp = (areas * random.uniform(0.1, 0.9, len(areas))).astype(np.int64)
    fp = random.integers(0, 300, len(areas))
    preds = [f"{value:016x}" for value in random.integers(0, 2**62, len(areas))]
    return {"tp": tp.tolist(), "fp": fp.tolist(), "fn": (areas - tp).tolist(), "pred": preds}


def submission(name="entry", *, seed=0, images=12, seeds=(0, 1), generators=GENERATORS):
    """Return a whole submission, of all three protocols, as plain values."""
    random = np.random.default_rng(seed)
    ids, sources, areas = scene(images, generators)
    tests = {**areas, "authentic": np.zeros(images, np.int64)}
    trains = [tuple(o for o in generators if o != name) for name in generators] + [(name,) for name in generators]
    environment = {
        "device": "cpu", "precision": "fp32", "threads": 2, "processes": 1, "wall_seconds": 3.5,
        "peak_memory_mib": 900.0, "parameters": 230_000, "versions": {"torch": "2.9"},
    }  # fmt: skip
    origin = {"name": "net", "distribution": "deeploc-bench", "version": "0.1.0", "source": "ab" * 8}
    values = {
        "schema": 2,
        "name": name,
        "suite": "synthetic",
        "date": "2026-01-31",
        "contact": f"somebody {seed}",
        "license": "MIT",
        "reference": "https://example.org/paper",
        "code": "https://example.org/code",
        "model": origin,
        "loss": [{**origin, "name": "jaccard", "weight": 1.0}],
        "loss_expression": "jaccard",
        "recipe": msgspec.to_builtins(named_recipes()["quick"]),
        "budget": "full",
        "division": "closed",
        "pretraining": "none",
        "seeds": list(seeds),
        "fingerprint": "f" * 32,
        "generators": list(generators),
        "ids": {name: ids for name in tests},
        "sources": {name: sources for name in tests},
        "pixels": {name: [PIXELS] * images for name in tests},
        "trainings": [
            {
                "seed": one,
                "train_generators": list(train),
                "identity": f"{random.integers(2**62):064x}",
                "environment": environment,
                "tests": {
                    test: counts(random, part) for test, part in tests.items() if len(train) == 1 or test not in train
                },
            }
            for one in seeds
            for train in dict.fromkeys(trains)
        ],
    }
    return with_claims(values)


def untrained(values, **changes):
    """Return a submission's values as those of a model that is never trained."""
    tests = {test: part for training in values["trainings"] for test, part in training["tests"].items()}
    trainings = [
        {**t, "tests": {name: part for name, part in tests.items() if name in t["tests"]}}
        for t in values["trainings"]
        if t["seed"] == 0
    ]
    made = {"loss": [], "loss_expression": "untrained", "recipe": None, "division": "open", "seeds": [0]}
    return with_claims({**values, **made, "trainings": trainings, **changes})


def scored(values, **changes):
    """Return a submission's values as those of predictions made elsewhere."""
    trainings = [{**training, "environment": None} for training in values["trainings"]]
    made = {"loss": [], "loss_expression": "scored", "recipe": None, "division": "open", "pretraining": None}
    made |= {"baseline": False, "model": {**values["model"], "source": None}, "trainings": trainings}
    return with_claims({**values, **made, **changes})


def with_claims(values):
    """Return a submission's values with the claims that its records give."""
    rest = {key: value for key, value in values.items() if key != "claims"}
    evidence = msgspec.convert(rest, Evidence)
    records = claims.records_of(evidence)
    found = claims.claims_of(claims.rows_of(evidence, records), claims.transfer_ious(evidence))
    return {**rest, "claims": msgspec.to_builtins(found)}


def submission_of(values):
    return msgspec.convert(values, Submission)


def entry_of(values):
    """Return what a board keeps of a submission."""
    whole = submission_of(values)
    records = claims.records_of(whole)
    return claims.entry_of(whole, records, claims.rows_of(whole, records))


def improved(name, share, **options):
    """Return the values of a submission that finds `share` of what its like misses."""
    values = submission(name, **options)
    for training in values["trainings"]:
        for part in training["tests"].values():
            found = [int(share * fn) for fn in part["fn"]]
            part["tp"] = [tp + more for tp, more in zip(part["tp"], found, strict=True)]
            part["fn"] = [fn - more for fn, more in zip(part["fn"], found, strict=True)]
    return with_claims(values)


def write(folder, values, name=None):
    """Write a submission into a leaderboard folder; returns its file."""
    file = folder / "submissions" / "synthetic" / f"{name or values['name']}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(values if isinstance(values, bytes) else to_json(submission_of(values)))
    return file


def outline(folder, suite="synthetic", generators=GENERATORS, *, authentic=True):
    """Make a leaderboard folder whose manifest knows no more of a suite than its generators."""
    parts = {name: {"role": "standard", "test": None} for name in generators}
    parts |= {"authentic": {"role": "test-only", "test": None}} if authentic else {}
    (folder / "suites").mkdir(parents=True, exist_ok=True)
    known = {"schema": 1, "suite": suite, "fingerprint": None, "generators": parts}
    (folder / f"suites/{suite}.json").write_text(json.dumps(known))
    return folder


def board(folder, entries=(), images=12, generators=GENERATORS):
    """Make a leaderboard folder with the suite's manifest and some accepted submissions."""
    (folder / "suites").mkdir(parents=True)
    (folder / "suites/synthetic.json").write_text(json.dumps(manifest(images, generators)))
    for entry in entries:
        write(folder, entry)
    return folder
