"""Which tiles an epoch draws, so that no dataset drowns another."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt


class BalancedSampler:
    """Draw tiles in proportion to their weights; the same for the same seed and epoch.

    A tile that is expected 1.3 times comes once or twice, never five times or not at all.

    Args:
        weights: ``(n,)`` how often each tile is drawn, in relation to the others.
        count: Draws per epoch.
        seed: Changes the draws.

    Attributes:
        epoch: The epoch that is drawn next.
    """

    def __init__(self, weights: npt.NDArray[np.float64], count: int, seed: int) -> None:
        self.epoch = 0
        self._bounds = np.cumsum(weights) / weights.sum()
        self._count = count
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self._seed, self.epoch])
        self.epoch += 1
        places = (random.random() + np.arange(self._count)) / self._count
        # All bounds but the last: rounding must not put a place behind the end.
        drawn = np.searchsorted(self._bounds[:-1], places, side="right")
        yield from random.permutation(drawn).tolist()


def dataset_weights(datasets: Sequence[str], balance: float) -> npt.NDArray[np.float64]:
    """Return a weight ``(n,)`` for each tile, from the name of the dataset of each.

    A dataset with n tiles gets a share in proportion to ``n ** (1 - balance)``.
    """
    sizes = Counter(datasets)
    return np.array([float(sizes[name]) ** -balance for name in datasets])
