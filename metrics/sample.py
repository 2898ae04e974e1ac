"""Named features in a stream → a random sample of them, the same for all who see those names."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from metrics.inputs import check_features


class Reservoir:
    """Uniform random sample, without replacement, of a stream of named features.

    Hashes of the names decide which features stay, and stand for their order: two systems that
    are scored on the same frames keep the same ones, in whatever batches and order they come.

    Attributes:
        names: of the features kept, row by row.
        features: those, (rows, features).

    Source: Cohen and Kaplan 2007, bottom-k sketch.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: a sample holds at least one feature")
        self.capacity = capacity
        self.names: list[str] = []
        self.features = torch.zeros(0, 0)
        self._ranks: list[bytes] = []

    def add(self, features: Float[Tensor, "rows features"], names: Sequence[str]) -> None:
        """Take in more features; each of those seen so far is kept with the same probability.

        Args:
            features: of one width.
            names: of the rows, each only once in the whole stream.

        Raises:
            ValueError: another width than before, not one name a row, or NaN.
        """
        check_features(0, features=features)
        if len(names) != len(features):
            raise ValueError(f"{len(features)} features with {len(names)} names")
        if not self.names:
            self.features = features[:0]
        elif features.shape[1] != self.features.shape[1]:
            raise ValueError(
                f"features of width {features.shape[1]} after features of width "
                f"{self.features.shape[1]}: use one reservoir for each feature network"
            )
        ranks = [hashlib.sha256(name.encode()).digest() for name in names]
        is_full = len(self.names) == self.capacity
        new = [n for n, rank in enumerate(ranks) if not is_full or rank < self._ranks[-1]]
        if not new:
            return
        ranks = [*self._ranks, *(ranks[n] for n in new)]
        names = [*self.names, *(names[n] for n in new)]
        kept = sorted(range(len(ranks)), key=ranks.__getitem__)[: self.capacity]
        self.features = torch.cat([self.features, features[new]])[kept]
        self.names, self._ranks = [names[n] for n in kept], [ranks[n] for n in kept]
