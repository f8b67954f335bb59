"""Greedy suppression: of rows that are the same thing, keep the best."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def keep_best(count: int, better: Rows, worse: Rows) -> npt.NDArray[np.bool_]:
    """Return which rows no kept better row suppresses, as if one went through them from the best to the worst.

    Args:
        count: Number of rows.
        better: ``(p,)`` rows of all pairs that are the same thing.
        worse: ``(p,)`` the other row of each pair; "better than" must be a strict order.
    """
    kept = np.ones(count, np.bool_)
    # Each round settles at least the best row that is not settled yet, in practice nearly all rows at once.
    while True:
        still = np.ones(count, np.bool_)
        still[worse[kept[better]]] = False
        if np.array_equal(still, kept):
            return kept
        kept = still
