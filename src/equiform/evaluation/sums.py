"""Metrics that are a function of sums over the inputs, such as a share: they can be resampled."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor


class Summed(ABC):
    """A metric of what every input adds, as many numbers for each: the value is a function of their sums.

    So it can be resampled: see `resampling`.
    """

    def __init__(self) -> None:
        self.added: list[np.ndarray] = []  # of every batch, (b, m)

    @abstractmethod
    def update(self, output: Any, target: Any) -> None: ...

    @abstractmethod
    def value(self, sums: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " r"]:
        """The metric of each row of sums; nan where nothing counts."""

    def rows(self) -> Float[np.ndarray, "n m"]:
        """What every input adds."""
        return np.concatenate(self.added) if self.added else np.zeros((0, 1))

    def __len__(self) -> int:
        return sum(map(len, self.added))

    def weighted(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """The metric for each row of weights, 2 as if an input were there twice."""
        return self.value(weights @ self.rows())

    def compute(self) -> float:
        return float(self.weighted(np.ones((1, len(self))))[0]) if len(self) else float("nan")


class Ratio(Summed):
    """A share or a mean: `counted` says what every input adds to it and out of how many, (b, 2)."""

    def __init__(self, counted: Callable[[Any, Any], Float[Tensor, "b 2"]], higher_is_better: bool = True):
        super().__init__()
        self.counted, self.higher_is_better = counted, higher_is_better

    def update(self, output: Any, target: Any) -> None:
        self.added.append(self.counted(output, target).detach().double().cpu().numpy())

    def value(self, sums: Float[np.ndarray, "r 2"]) -> Float[np.ndarray, " r"]:
        return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)
