"""Features of two sets of frames → how far apart their distributions are."""

import math
import statistics
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metrics.inputs import check_features

KERNEL_ROWS = 1000  # rows of the kernel held at once: bounds memory, not the result
ROWS_PER_POINT = 10  # of the line to infinity: keeps its set sizes apart


class FeatureMoments:
    """Mean and covariance of a stream of features, in memory that does not grow with it.

    The batches in which the features arrive change the result by rounding only.

    Attributes:
        n: features seen.
        mean: of the features; without elements before the first.
        scatter: sum of the outer products of their deviations from the mean.

    Source: Chan, Golub and LeVeque 1979, pairwise update, in float64.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)

    def add(self, features: Float[Tensor, "rows features"]) -> None:
        """Take in more features; none at all is fine.

        Raises:
            ValueError: another width than before, or NaN.
        """
        check_features(0, features=features)
        count, width = features.shape
        if count == 0:
            return
        if self.n == 0:
            self.mean = torch.zeros(width, dtype=torch.float64)
            self.scatter = torch.zeros(width, width, dtype=torch.float64)
        if width != len(self.mean):
            raise ValueError(
                f"features of width {width} after features of width {len(self.mean)}: "
                "use one accumulator for each feature network"
            )
        rows = features.double()
        mean = rows.mean(dim=0)
        deviations = rows - mean
        total = self.n + count
        shift = mean - self.mean
        self.scatter.addmm_(deviations.T, deviations)
        self.scatter.addr_(shift, shift, alpha=self.n * count / total)
        self.mean.add_(shift, alpha=count / total)
        self.n = total

    @property
    def covariance(self) -> Float[Tensor, "features features"]:
        """Sample covariance (divisor n - 1); `nan` below two features."""
        return self.scatter / (self.n - 1 if self.n > 1 else torch.nan)


class _Gaussian(NamedTuple):
    """A normal distribution; the covariance is rootᵀ root."""

    mean: Tensor
    root: Tensor


def frechet_distance(a: Float[Tensor, "n features"], b: Float[Tensor, "m features"]) -> float:
    """Fréchet distance of the normal distributions fitted to two sets; lower is better, 0 equal.

    In squared units of the features. Few rows make it too large, even between equal distributions:
    compare values of equal row counts only, and keep the count with the value.

    With centred features X / √(n-1) and Y / √(m-1) as roots of the covariances, tr √(S₁S₂) is
    the sum of the singular values of XYᵀ: exact for singular covariances, never complex. Rounding
    below 0 becomes 0.

    Args:
        a: features of the generated frames.
        b: features of the real frames, not aligned with `a`.

    Raises:
        ValueError: fewer than two rows, widths differ, or NaN.

    Source: Heusel et al. 2017, equation 6; pytorch-fid, clean-fid and torch-fidelity agree to
        1e-6, 1e-4 for singular covariances (tests/golden/frechet.json).
    """
    check_features(2, a=a, b=b)
    return _distance(_fit(a), _fit(b))


def frechet_of_moments(a: FeatureMoments, b: FeatureMoments) -> float:
    """The same as `frechet_distance` of the features that two accumulators have seen.

    Raises:
        ValueError: an accumulator saw fewer than two features, or their widths differ.

    Source: see `frechet_distance`.
    """
    for name, moments in (("a", a), ("b", b)):
        if moments.n < 2:
            raise ValueError(f"{name}: a covariance needs at least 2 features, got {moments.n}")
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features differ in width: a {len(a.mean)}, b {len(b.mean)}")
    return _distance(_Gaussian(a.mean, _root(a)), _Gaussian(b.mean, _root(b)))


def frechet_at_infinity(
    a: Float[Tensor, "n features"],
    b: Float[Tensor, "m features"],
    points: int = 15,
    seed: int = 0,
) -> tuple[float, float]:
    """Fréchet distance for endlessly many rows of `a`, and rms residual of the line behind it.

    Both in squared units of the features; lower is better. Random parts of `a`, from a tenth to
    all of it, are compared with the whole of `b`, and the distances extended along a line in 1/N.
    The line holds for N well above the rank of the features only: a residual that is not small
    says that `a` is too short. May be negative. The bias from the rows of `b` stays.

    Args:
        a: features of the generated frames.
        b: features of the real frames.
        points: of the line, 3 or more.
        seed: of the random parts.

    Raises:
        ValueError: `a` has fewer than 10 rows a point, `b` fewer than two; fewer than 3 points;
            widths differ, or NaN.

    Source: Chong and Forsyth 2020, section 3; N evenly spaced as in mchong6/FID_IS_infinity.
    """
    if points < 3:
        raise ValueError(f"points={points}: the residual of a line needs at least 3")
    check_features(2, a=a, b=b)
    check_features(ROWS_PER_POINT * points, a=a)
    generator = torch.Generator().manual_seed(seed)
    real = _fit(b)
    sizes = torch.linspace(len(a) / 10, len(a), points, dtype=torch.float64).round().long()
    parts = (_draw(a, size, generator) for size in sizes.tolist())
    distances = torch.tensor([_distance(_fit(part), real) for part in parts], dtype=torch.float64)
    line = torch.stack([1 / sizes.double(), torch.ones(points, dtype=torch.float64)], dim=1)
    fit = torch.linalg.lstsq(line, distances[:, None]).solution[:, 0]
    residual = (line @ fit - distances).square().mean().sqrt()
    return fit[1].item(), residual.item()


def kernel_distance(
    a: Float[Tensor, "n features"],
    b: Float[Tensor, "m features"],
    subset_size: int = 1000,
    num_subsets: int = 100,
    seed: int = 0,
) -> tuple[float, float]:
    """Kernel distance (KID) of two sets, mean and standard deviation; lower is better.

    Squared maximum mean discrepancy under the kernel (x·y / features + 1)³, unitless and
    unbiased: equal distributions give 0 on average, hence also values below 0, whatever the row
    counts. Where a set does not exceed `subset_size` all rows are used once and the deviation is
    `nan`. The deviation is over subsets that overlap, no error of the mean.

    Args:
        a: features of the generated frames.
        b: features of the real frames, not aligned with `a`.
        subset_size: rows drawn of each set, without replacement.
        num_subsets: pairs of subsets.
        seed: of the draws.

    Raises:
        ValueError: fewer than two rows or rows a subset, no subset, widths differ, or NaN.

    Source: Bińkowski et al. 2018, equation 4; piq.KID on equal subsets to 1e-9 and
        torch-fidelity's subset_size and num_subsets.
    """
    check_features(2, a=a, b=b)
    if subset_size < 2 or num_subsets < 1:
        raise ValueError(
            f"subset_size={subset_size}, num_subsets={num_subsets}: expected at least 2 and 1"
        )
    a, b = a.double(), b.double()
    if min(len(a), len(b)) <= subset_size:
        return _discrepancy(a, b), math.nan
    generator = torch.Generator().manual_seed(seed)
    values = [
        _discrepancy(*(_draw(rows, subset_size, generator) for rows in (a, b)))
        for _ in range(num_subsets)
    ]
    return statistics.fmean(values), statistics.pstdev(values)


def kernel_distance_without(
    a: Float[Tensor, "n features"], b: Float[Tensor, "n features"], groups: Int[Tensor, " n"]
) -> tuple[float, Float[Tensor, " groups"]]:
    """Kernel distance of two sets on all their rows, and on those without each group in turn.

    What a jackknife over people needs, for little more than one distance.

    Args:
        a: features of the generated frames.
        b: features of the real frames, of the same groups row by row.
        groups: number of each row's group, from 0 without a gap.

    Raises:
        ValueError: fewer than two rows are left without a group, widths differ, or NaN.

    Source: see `kernel_distance`; the sums over all pairs of groups are taken once.
    """
    counts = torch.bincount(groups)
    check_features(2 + int(counts.max()), a=a, b=b)
    member = torch.nn.functional.one_hot(groups).double()
    a, b = a.double(), b.double()
    left = len(a) - torch.cat([counts.new_zeros(1), counts])
    values = torch.zeros(len(left), dtype=torch.float64)
    for first, second, factor in ((a, a, 1.0), (b, b, 1.0), (a, b, -2.0)):
        sums = torch.zeros(len(counts), len(counts), dtype=torch.float64)
        for rows, members in zip(first.split(KERNEL_ROWS), member.split(KERNEL_ROWS), strict=True):
            sums += members.T @ _kernel(rows @ second.T, a.shape[1]) @ member
        pairs = left * left
        if first is second:
            itself = _kernel(first.square().sum(dim=1), a.shape[1])
            sums.diagonal().sub_(member.T @ itself)
            pairs = left * (left - 1)
        gone = sums.sum(dim=0) + sums.sum(dim=1) - sums.diagonal()
        values += factor * (sums.sum() - torch.cat([gone.new_zeros(1), gone])) / pairs
    return values[0].item(), values[1:]


def _draw(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


def _fit(features: Tensor) -> _Gaussian:
    rows = features.double()
    mean = rows.mean(dim=0)
    root = (rows - mean) / math.sqrt(len(rows) - 1)
    if len(rows) > rows.shape[1]:
        root = torch.linalg.qr(root, mode="r").R
    return _Gaussian(mean, root)


def _root(moments: FeatureMoments) -> Tensor:
    """Root of a covariance; directions that hold nothing but rounding are left out of it."""
    values, vectors = torch.linalg.eigh(moments.covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return values[kept, None].sqrt() * vectors.T[kept]


def _distance(a: _Gaussian, b: _Gaussian) -> float:
    shift = (a.mean - b.mean).square().sum()
    spread = a.root.square().sum() + b.root.square().sum()
    overlap = torch.linalg.svdvals(a.root @ b.root.T).sum()
    return (shift + spread - 2 * overlap).clamp(min=0).item()


def _discrepancy(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy: a row is never compared with itself."""
    within = sum(
        (_kernel_sum(rows, rows) - _kernel(rows.square().sum(dim=1), rows.shape[1]).sum())
        / (len(rows) * (len(rows) - 1))
        for rows in (a, b)
    )
    return (within - 2 * _kernel_sum(a, b) / (len(a) * len(b))).item()


def _kernel_sum(a: Tensor, b: Tensor) -> Tensor:
    return sum(_kernel(rows @ b.T, b.shape[1]).sum() for rows in a.split(KERNEL_ROWS))


def _kernel(products: Tensor, width: int) -> Tensor:
    return (products / width + 1) ** 3
