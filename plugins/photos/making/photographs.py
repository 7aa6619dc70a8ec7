"""Which photograph is in which split; the networks learn from those of `train` alone."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "valid", "test"]

PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("air-balloon", "aitzgorri", "ajanta-cave", "arles-amphitheater", "bison", "brushes", "bulb", "cat"),
        *("chameleon", "chateaude-chambord", "citede-carcassonne", "cocktail", "cow", "crab", "dragon", "eiffel-tower"),
        *("european-honey-bee", "fig", "garden-chameleon", "giraffe", "giraffes", "golden-temple"),
        *("great-stupa", "great-wallof-china", "horses", "kangaroo", "konark-sun-temple", "mont-st-michel", "moonwalk"),
        *("moose", "mysore-palace", "night-owl", "owl", "palaisdes-papes", "pancakes", "pencils", "pig", "pika"),
        *("playing-cat", "polar-bear", "qutub-minar", "rocamadour", "shuttle", "stream", "sunflower", "sushi"),
        *("two-dogs", "wine"),
    ),
    "valid": (
        *("books", "charminar", "citrus-fruits", "dog", "duck", "gamepad", "gibbon", "koala", "machu-picchu"),
        *("narwhal", "rang-ghar", "sunset", "tree-chameleon"),
    ),
    "test": (
        *("cat-face", "chateaude-chenonceau", "chicken", "cincinnati-bridge", "coffee", "colosseum", "fish"),
        *("gatewayof-india", "hawa-mahal", "hedgehog", "jaguar", "kingfisher", "kitten", "launchpad", "lemur"),
        *("paintbrushes", "panda", "parrot", "petra", "picosdeeuropa", "pontdu-gard", "portrait", "raccoon"),
        *("red-panda", "reims-cathedral", "scarlet-macaw", "seeding", "sheep", "shepherd", "soccer"),
    ),
}
