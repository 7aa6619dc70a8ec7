"""`deeploc-bench weights`: pretrained weights for machines without a network."""

import click

from deeploc_bench.cli import common


@click.group("weights")
def command() -> None:
    """Fetch pretrained weights."""


@command.command("fetch")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@common.plugin_option
def fetch(models: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Fill the Hugging Face cache with the weights of models, on a machine with a network."""
    registry = common.load(plugins)
    for name in models:
        owned = registry.model(name)
        if owned.spec.weights:
            common.put(f"{name} declares its weights file, {owned.spec.weights}; there is nothing to fetch")
            continue
        if owned.spec.pretraining == "none":
            common.put(f"{name} is trained from scratch; there is nothing to fetch")
            continue
        from deeploc_bench.training.build import build_model

        build_model(owned, "default")
        common.put(f"{name}: weights are in the cache")
