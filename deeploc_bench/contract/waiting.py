"""How torch's threads wait for each other: awake for a moment only, so that a busy neighbour does not stop them all.

Each of its operations ends where all threads have met. By default they wait awake, and take the processor from the one
thread that is waited for and has to share it; threads that sleep at once take long to wake. docs/performance.md has the
measurements.
"""

import os
import sys

CHOICES = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""What says how long, to libgomp in rounds of waiting and to the other OpenMP libraries in milliseconds."""


def wait_briefly() -> None:
    """Set this for the threads to come, unless the user has; an OpenMP library reads it when it is loaded, by torch."""
    if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", *CHOICES} & os.environ.keys():
        os.environ.update(CHOICES)
