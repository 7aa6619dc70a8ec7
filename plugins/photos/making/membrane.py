"""A membrane over a hole: the smoothest values that meet those around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import spsolve

Field = NDArray[np.float64]


def membrane(values: Field, hole: NDArray[np.bool_]) -> Field:
    """The values, (H, W, C), with the solution of Laplace's equation in the hole, (H, W)."""
    height, width = hole.shape
    neighbours = sparse.kronsum(path(width), path(height), format="csr")
    inside, flat = hole.ravel(), values.reshape(-1, values.shape[2]).astype(float)
    rows = csgraph.laplacian(neighbours).tocsr()[inside]
    flat[inside] = spsolve(rows[:, inside].tocsc(), -rows[:, ~inside] @ flat[~inside]).reshape(-1, values.shape[2])
    return flat.reshape(values.shape)


def path(length: int) -> sparse.dia_array:
    """The adjacency of pixels in a row."""
    return sparse.diags_array([np.ones(length - 1)] * 2, offsets=[-1, 1], shape=(length, length))
