"""Pictures of all clips together: FID and KID, distances between distributions of a network's features."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torchmetrics.image import fid
from torchmetrics.image.kid import maximum_mean_discrepancy, poly_kernel

from metrics.base import SidesDistance
from metrics.checks import PICTURES, Shape, as_uint8, check_rows, check_side
from metrics.judges.inception import load_fid_inception
from metrics.precision import single_precision

ENOUGH = 2048
"""Fewer pictures or windows than this on a side make a distance biased: such a result is marked."""


@dataclass(frozen=True)
class KidSettings:
    """What features a kernel distance is taken from."""

    subsets: int = 100  # their number; one where ``size`` takes all of both sides
    size: int = (
        1000  # features of each side in a subset, drawn without replacement; at most as many as there are
    )
    seed: int = 0  # of the draws
    most: int = 10_000  # features of a side that subsets are drawn from; of more, so many are drawn first


@torch.no_grad()
def extract_features(network: nn.Module, images: Tensor) -> Tensor:
    """Features in single precision and evaluation mode, whatever the training around it has set.

    Args:
        network: Maps uint8 images to ``(N, D)``.
        images: ``(N, 3, H, W)`` or ``(N, T, 3, H, W)`` uint8, or float in [-1, 1], which is rounded first.

    Raises:
        ValueError: Images of another shape, type or range.
    """
    levels = as_uint8(images, PICTURES if images.ndim == len(PICTURES) else ("N", "T", *PICTURES[1:]))
    network.eval()
    with single_precision(images.device):
        return network(levels)


def frechet_distance(
    mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor, rank: int | None = None
) -> Tensor:
    """Squared Fréchet distance of two Gaussians.

    The trace of the root of ``S1 S2`` is the sum of the roots of the eigenvalues of ``S1^½ S2 S1^½``, which
    is symmetric: faster than a general matrix root, and never complex.

    Args:
        mean1: ``(D,)``.
        covariance1: ``(D, D)``, symmetric and positive semidefinite.
        mean2: Like ``mean1``.
        covariance2: Like ``covariance1``.
        rank: Largest rank that the covariances can have, one less than the samples behind the smaller side:
            eigenvalues beyond it are rounding, and a thousand roots of rounding would show. None: full.

    Returns:
        Scalar float64, at least 0 but for rounding.

    Source: Dowson and Landau 1982; Heusel et al. 2017, equation 6.
    """
    mean1, mean2, first, second = (part.double() for part in (mean1, mean2, covariance1, covariance2))
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    products = torch.linalg.eigvalsh(root @ second @ root)  # ascending
    overlap = products[-(rank or len(products)) :].clamp(min=0).sqrt().sum()
    return (mean1 - mean2).square().sum() + first.trace() + second.trace() - 2 * overlap


def distance_of_sums(counts: Tensor, sums: Tensor, products: Tensor) -> Tensor:
    """Squared Fréchet distance of two sides of which only sums are known; NaN with fewer than two samples on a side.

    Args:
        counts: ``(2,)`` samples of each side.
        sums: ``(2, D)`` float64 sums of their features.
        products: ``(2, D, D)`` float64 sums of their outer products.
    """
    smallest = int(counts.min())
    if smallest < 2:
        return torch.full((), torch.nan, dtype=torch.float64, device=sums.device)
    means = sums / counts[:, None]
    squares = counts[:, None, None] * means[:, :, None] * means[:, None, :]
    covariances = (products - squares) / (counts[:, None, None] - 1)
    return frechet_distance(means[0], covariances[0], means[1], covariances[1], smallest - 1)


def draw_subsets(
    real: int, generated: int, settings: KidSettings = KidSettings()
) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices of the features of both sides, of so many, in each subset; none with fewer than two on a side."""
    size = min(settings.size, real, generated)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(0 if size < 2 else 1 if size == real == generated else settings.subsets):
        first, second = (torch.randperm(count, generator=generator)[:size] for count in (real, generated))
        yield first, second


class FeatureDraw:
    """A uniform draw of the features that were added, of more than ``most``: by one key each, in the order they come.

    ``rows`` ``(K, D)`` are the features, ``labels`` ``(K, L)`` the integers that were added with each.
    """

    def __init__(self, settings: KidSettings, labels: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._most = settings.most
        self._keys = torch.empty(0, dtype=torch.float64)
        self.rows, self.labels = torch.empty(0, 0), torch.empty(0, labels, dtype=torch.long)

    def add(self, rows: Tensor, *labels: int) -> None:
        """Add features ``(N, D)`` with their labels."""
        keys = torch.rand(len(rows), generator=self._generator, dtype=torch.float64)
        named = torch.tensor([labels], dtype=torch.long).expand(len(rows), -1)
        self.rows = torch.cat([self.rows, rows]) if len(self.rows) else rows
        self.labels = torch.cat([self.labels, named])
        self._keys = torch.cat([self._keys, keys])
        if len(self.rows) > self._most:
            kept = self._keys.topk(self._most, largest=False).indices.sort().values
            self.rows, self.labels = self.rows[kept.to(self.rows.device)], self.labels[kept]
            self._keys = self._keys[kept]

    def in_order(self) -> tuple[Tensor, Tensor]:
        """Rows and labels in one order, whatever the one they came in: subsets then hold the same pictures."""
        order = self.rows.double().sum(dim=1).argsort()
        return self.rows[order], self.labels[order.to(self.labels.device)]


def polynomial_kernel(first: Tensor, second: Tensor) -> Tensor:
    """``(x·y / D + 1)^3`` in float64 of features ``(N, D)`` and ``(M, D)``, ``(N, M)``."""
    return poly_kernel(first.double(), second.double())


def kernel_distances(real: Tensor, generated: Tensor, settings: KidSettings = KidSettings()) -> Tensor:
    """Unbiased squared maximum mean discrepancy of random subsets, kernel ``(x·y / D + 1)^3``.

    ``(subsets,)`` float64 of features ``(N, D)`` and ``(M, D)``, around 0 for equal distributions; NaN with fewer than
    two on a side.

    Source: Bińkowski et al. 2018, equation 4 and section 4.
    """
    distances = []
    for first, second in draw_subsets(len(real), len(generated), settings):
        x, y = real[first.to(real.device)], generated[second.to(real.device)]
        kernels = (polynomial_kernel(*pair) for pair in ((x, x), (x, y), (y, y)))
        distances.append(maximum_mean_discrepancy(*kernels))
    if not distances:
        return torch.full((1,), torch.nan, dtype=torch.float64, device=real.device)
    return torch.stack(distances)


class FeatureExtractor(nn.Module):
    """A feature network as metrics call it: arguments are checked, and features pass as they are.

    Args:
        network: Has an attribute ``num_features`` = D and maps uint8 images to ``(N, D)``.
        shape: Of the images.

    Raises:
        ValueError: ``network`` is no such network.
    """

    def __init__(self, network: nn.Module, shape: Shape = PICTURES) -> None:
        super().__init__()
        if not isinstance(getattr(network, "num_features", None), int):
            raise ValueError(f"feature must be a network with an attribute num_features; got {network!r:.40}")
        self.network, self.shape = network, shape
        self.num_features = cast(int, network.num_features)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, D)`` of images, uint8 or float in [-1, 1], or ``images`` if they are such features already.

        Raises:
            ValueError: The shape, type or range is another, or features are not finite.
        """
        if images.ndim == 2 and images.shape[1] == self.num_features:
            check_rows(images, ("N", self.num_features))
            return images
        return extract_features(self.network, as_uint8(images, self.shape))


class FrechetInceptionDistance(fid.FrechetInceptionDistance):
    """FID of pictures ``(N, 3, H, W)`` as the ``pytorch-fid`` command gives it. 0 is best.

    torchmetrics' class, its sums in float64, but for the root: of symmetric matrices and cut at the rank, which is
    faster and doesn't count a thousand roots of rounding where there are fewer pictures than features; and in float64.

    Args:
        feature: Feature network; pytorch-fid's Inception from its weights file if left out. With another
            network the result is no FID: report it under that network's name.
        shape: Of the images.

    Raises:
        MissingAssetError: The Inception's weights are not there.

    Source: Heusel et al. 2017.
    """

    def __init__(self, feature: nn.Module | None = None, shape: Shape = PICTURES) -> None:
        super().__init__(FeatureExtractor(load_fid_inception() if feature is None else feature, shape))

    def update(self, imgs: Tensor, real: bool) -> None:
        """Add images, uint8 or float in [-1, 1]; or their features ``(N, D)``."""
        check_side(real)
        super().update(imgs, real=real)

    def compute(self) -> Tensor:
        """Squared Fréchet distance; NaN with fewer than two images on a side."""
        counts, sums, products = (
            torch.stack([getattr(self, f"{side}_features_{name}") for side in ("real", "fake")])
            for name in ("num_samples", "sum", "cov_sum")
        )
        return distance_of_sums(counts, sums, products)


class KernelInceptionDistance(SidesDistance):
    """KID of pictures ``(N, 3, H, W)``: mean over subsets of `kernel_distances`. 0 is best; may be negative.

    All features are kept: 8 KB a picture with the default network. Of more than ``settings.most`` on a side, so many are
    drawn, as in an evaluation; of several processes in the order of their ranks. torchmetrics' class draws from the global
    generator, needs a full subset, and hangs where one of several processes has no picture: only its kernel is used.

    Args:
        feature: Feature network; pytorch-fid's Inception from its weights file if left out.
        settings: Of the subsets.

    Raises:
        MissingAssetError: The Inception's weights are not there.

    Source: Bińkowski et al. 2018.
    """

    def __init__(self, feature: nn.Module | None = None, settings: KidSettings = KidSettings()) -> None:
        inception = FeatureExtractor(load_fid_inception() if feature is None else feature)
        super().__init__(inception.num_features, fewest=2, dtype=torch.float32)
        self.inception, self.settings = inception, settings

    def rows_of(self, values: Tensor) -> Tensor:
        """Features of pictures ``(N, 3, H, W)``, uint8 or float in [-1, 1]; or features ``(N, D)`` themselves."""
        return self.inception(values)

    def distance(self, real: Tensor, generated: Tensor) -> Tensor:
        """Mean KID."""
        draws = FeatureDraw(self.settings), FeatureDraw(self.settings)
        for draw, side in zip(draws, (real, generated), strict=True):
            draw.add(side)
        drawn, others = (draw.in_order()[0] for draw in draws)
        return kernel_distances(drawn, others, self.settings).mean()
