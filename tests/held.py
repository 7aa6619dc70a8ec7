"""A loss that, after forty steps in one process, waits for as long as there is a file, named by HOLD."""

import os
import time
from itertools import count
from pathlib import Path

from deeploc_bench import Loss, hookimpl


def build():
    from torch.nn import functional as F

    steps, hold = count(), os.environ.get("HOLD")

    def loss(logits, masks):
        while next(steps) >= 40 and hold and Path(hold).exists():
            time.sleep(0.02)
        return F.binary_cross_entropy_with_logits(logits, masks)

    return loss


@hookimpl
def deeploc_losses():
    return [Loss(name="held", build=build)]
