"""What a generator dataset's plugin builds: its samples, held against what its role needs."""

from collections.abc import Mapping
from pathlib import Path

from deeploc_bench.contract.errors import DataError
from deeploc_bench.contract.findings import Finding, data_finding
from deeploc_bench.contract.isolation import guarded
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS, GeneratorDataset, Sample, Samples, Split


def samples_of(
    owned: Owned[GeneratorDataset], data: Path | None, findings: list[Finding], spare: list[Sample]
) -> Samples:
    """Return the samples that a dataset's role needs; those of other splits, and what is wrong, join the two lists."""
    spec = owned.spec
    where = f"{spec.name} (plugin {owned.plugin.name})"
    try:
        needed: tuple[Split, ...] = SPLITS if spec.role == "standard" else ("test",)
        with guarded("it"):
            splits = spec.build(data) if spec.needs_data else spec.build()
            if not isinstance(splits, Mapping) or not set(splits) <= set(SPLITS):
                raise DataError(f"built {splits!r:.80}; expected a mapping of {', '.join(SPLITS)} to samples")
            kept = {split: list(splits[split]) for split in needed if splits.get(split)}
            spare += [one for split in {*splits} - {*kept} for one in splits[split] or () if isinstance(one, Sample)]
        for split, samples in kept.items():
            _check_samples(samples, f"split {split}", authentic=spec.name == AUTHENTIC)
    except Exception as error:
        reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        findings.append(data_finding("dataset", f"{where}: {reason}"))
        return {}
    if kept or spec.role == "standard":
        findings += [data_finding("split", f"{spec.name}/{split}") for split in needed if split not in kept]
    return kept


def _check_samples(samples: list[Sample], where: str, *, authentic: bool) -> None:
    seen = set()
    for sample in samples:
        if not isinstance(sample, Sample):
            raise DataError(f"{where}: {sample!r:.80} is not a Sample")
        if sample.id in seen:
            raise DataError(f"{where}: sample id {sample.id!r} appears twice; ids must be unique")
        if (sample.mask is None) != authentic:
            expected = "no mask" if authentic else "a mask (authentic images belong to the dataset 'authentic')"
            raise DataError(f"{where}: sample {sample.id!r} needs {expected}")
        seen.add(sample.id)
