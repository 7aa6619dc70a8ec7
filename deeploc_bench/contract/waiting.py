"""How torch's threads wait for each other: awake for a moment only, so that a busy neighbour does not stop them all.

Each of its operations ends where all threads have met. By default they wait awake, and take the processor from the one
thread that is waited for and has to share it; threads that sleep at once take long to wake. docs/performance.md has the
measurements.
"""

import os
import sys

ROUNDS = "1000"
"""How many rounds libgomp's threads wait awake; the library's own choice is three hundred times as many."""
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""The variables by which users say how threads wait."""


def wait_briefly() -> None:
    """Set this for the threads to come, unless the user has; libgomp reads it when it is loaded, by torch."""
    if "torch" not in sys.modules and not os.environ.keys() & {*CHOICES}:
        os.environ["GOMP_SPINCOUNT"] = ROUNDS
