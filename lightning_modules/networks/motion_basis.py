"""Motion basis: raw coefficients to whitened head | mouth | eyes | rest blocks and back, linear but for a bend.

The raw coefficients of a motion autoencoder mix everything (in trials all of them correlated with yaw), so that "move
the head half as much" has no meaning for them. After stage 1 the basis is fitted once against measured or true pose,
lips and lids; statistics, estimator and diffusion live in its coordinates. The raw basis is the paper's coefficients,
standardised, unrotated and without blocks.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

BLOCK_TARGETS = {
    "head": ("yaw", "pitch", "roll", "shift_x", "shift_y"),
    "mouth": ("lip_opening", "lip_width"),
    "eyes": ("blink",),
}
"""Measured quantities that span each block; what none of them explains is the block ``rest``."""
BLOCKS = (*BLOCK_TARGETS, "rest")
FRAMES_PER_DIMENSION = 4
"""Frames that a fit needs for each motion coefficient."""
BEND = 0.95
"""Coefficients times this are bent: those of renderers are in (-1, 1), and near the ends a little means much."""
EDGE = 1 - 1e-6
"""Largest bent coefficient: what is beyond counts as that. No frame's is over ``BEND``; coordinates of scaled motion come
back as they were, as far as float32 can tell."""
BLINK = 1.0
"""Coordinates of the eyes, of unit variance, beyond which lids are shut; bases of before kept smaller ones of no meaning."""
SHUT_SHARE = 0.01
"""Of the frames, those in which lids are taken for shut."""
INDEPENDENT = 0.1
"""A direction of length 1 counts if more than this of it lies outside the span of the others."""


def straightened(motion: Tensor, bend: Tensor | float = BEND) -> Tensor:
    """Coefficients ``(..., M)`` before they were bent."""
    return torch.atanh((bend * motion).clamp(-EDGE, EDGE))


def bent(values: Tensor, bend: Tensor | float = BEND) -> Tensor:
    """Values ``(..., M)`` of any size as coefficients within 1 / ``bend``; inverse of ``straightened``."""
    return torch.tanh(values) / bend


class MotionBasis(nn.Module):
    """Change of coordinates of motion vectors: affine, or affine behind an inverse hyperbolic tangent.

    Bent so, coordinates of any size are coefficients of about (-1, 1): what is sampled or scaled is never cut off, and keeps
    the statistics that it was asked for.

    Args:
        motion_dim: M, the number of coefficients.
        bent: whether it is, by ``BEND``.

    Attributes:
        blocks: name -> slice of the coordinates, never an empty one; no names where no targets were known.
        closed: ``(M,)`` mean coordinates of frames with closed lips, those of the eyes of frames with shut lids; zeros where
            no targets were known.
    """

    bend: Tensor
    mean: Tensor
    matrix: Tensor
    inverse: Tensor
    sizes: Tensor
    closed: Tensor

    def __init__(self, motion_dim: int = 20, bent: bool = False) -> None:
        super().__init__()
        if bent:
            self.register_buffer("bend", torch.tensor(BEND))
        self.register_buffer("mean", torch.zeros(motion_dim))
        self.register_buffer("matrix", torch.eye(motion_dim))
        self.register_buffer("inverse", torch.eye(motion_dim))
        self.register_buffer("closed", torch.zeros(motion_dim))
        self.register_buffer("sizes", torch.zeros(len(BLOCK_TARGETS), dtype=torch.long))

    @property
    def bent(self) -> bool:
        """Whether coefficients are bent before they are mapped."""
        return hasattr(self, "bend")

    @property
    def motion_dim(self) -> int:
        """M, the number of coordinates."""
        return len(self.mean)

    @property
    def blocks(self) -> dict[str, slice]:
        """Slices of head, mouth, eyes and rest, those without coordinates left out; none for a basis without blocks."""
        if not int(self.sizes.sum()):
            return {}
        slices, start = {}, 0
        sizes = self.sizes.tolist()
        for name, size in zip(BLOCKS, (*sizes, self.motion_dim - sum(sizes)), strict=True):
            if size:
                slices[name] = slice(start, start + size)
            start += size
        return slices

    @property
    def shutting(self) -> int:
        """1 or -1: the way that coordinates of the eyes go when lids shut; 1 where nobody was seen to shut them."""
        eyes = self.blocks.get("eyes")
        shut = 0.0 if eyes is None else float(self.closed[eyes].mean())
        return -1 if shut < -BLINK else 1

    def encode(self, motion: Tensor) -> Tensor:
        """Raw coefficients ``(..., M)`` to whitened coordinates ``(..., M)``."""
        with torch.autocast(motion.device.type, enabled=False):  # half precision loses the small coordinates
            return (self._straightened(motion) - self.mean) @ self.matrix.t()

    def decode(self, coordinates: Tensor) -> Tensor:
        """Whitened coordinates ``(..., M)`` to raw coefficients ``(..., M)``; inverse of ``encode``."""
        found = coordinates @ self.inverse.t() + self.mean
        return bent(found, self.bend) if self.bent else found

    def coefficients(self, coordinates: Tensor) -> Tensor:
        """As ``decode``, of coordinates that no frame need have had: within what renderers know.

        Bent coefficients are so by themselves, within 1 / ``BEND``; others are cut off at 1.
        """
        found = self.decode(coordinates)
        return found if self.bent else found.clamp(-1, 1)

    def coefficient_std(self) -> Tensor:
        """Std ``(M,)`` of each raw coefficient in the clips that the basis was fitted to; of bent ones about their mean."""
        std = self.inverse.norm(dim=1)  # whitened coordinates have unit covariance
        return std * (1 - torch.tanh(self.mean).square()) / self.bend if self.bent else std

    def _straightened(self, motion: Tensor) -> Tensor:
        """Coefficients before they were bent."""
        return straightened(motion, self.bend) if self.bent else motion


def fit_motion_basis(
    motion: Tensor, targets: Mapping[str, Tensor] | None = None, ridge: float = 1e-2, bent: bool = False
) -> MotionBasis:
    """Fit the basis to motion vectors and, where known, to pose, lips and lids.

    The motion is whitened; each target is regressed on it; the readout directions of a block span its coordinates
    (so that the block's coordinates alone tell its targets); ``rest`` is orthogonal to all of them. Changing one
    block while the others are held therefore leaves the linear readouts of the others where they were. A direction that
    earlier blocks nearly span already (there are M at most) is left out; so is a block of which nothing remains.

    Args:
        motion: ``(N, M)`` raw coefficients of many frames of many clips.
        targets: name -> ``(N,)`` for names in ``BLOCK_TARGETS``; blocks without a target are left out of the basis only
            if all are missing.
        ridge: regularisation of the regressions, relative to N.
        bent: whether the coefficients are those of a renderer, in (-1, 1), see `MotionBasis`.

    Raises:
        ValueError: fewer than 4 M frames.
    """
    count, dim = motion.shape
    if count < FRAMES_PER_DIMENSION * dim:
        raise ValueError(f"{count} frames are too few for a basis of {dim} dimensions")
    basis = MotionBasis(dim, bent)
    coefficients, motion = motion, basis._straightened(motion).double()
    # Whitening (M, M), by the principal components.
    mean = motion.mean(0)
    covariance = torch.cov((motion - mean).t()).reshape(dim, dim)
    values, vectors = torch.linalg.eigh(covariance)
    floor = values.max() * 1e-6
    whiten = vectors.t() * torch.rsqrt(values.clamp_min(floor))[:, None]
    # The blocks, one after the other: orthonormal readout directions of their targets that no block before spans.
    taken, sizes = torch.zeros(0, dim, dtype=torch.double), []
    if targets:
        white = (motion - mean) @ whiten.t()
        for names in BLOCK_TARGETS.values():
            readouts = [_readout(white, targets[n].double(), ridge) for n in names if n in targets]
            before = len(taken)
            for direction in _orthonormal(readouts, dim):
                if _unspanned(direction, taken) > INDEPENDENT:
                    taken = torch.cat([taken, direction[None]])
            sizes.append(len(taken) - before)
    # The rest is orthogonal to all blocks; the blocks may lean on each other, so that the inverse is no transpose.
    rotation = torch.cat([taken, _complement(taken, dim)])
    matrix = rotation @ whiten
    basis.mean.copy_(mean)
    basis.matrix.copy_(matrix)
    basis.inverse.copy_(torch.linalg.inv(matrix))
    if sizes:
        basis.sizes.copy_(torch.tensor(sizes))
    # Where closed lips are: the tenth of the frames with the least opening.
    if targets and "lip_opening" in targets:
        opening = targets["lip_opening"]
        shut = opening <= torch.quantile(opening[:: max(1, count // 100_000)], 0.1)
        basis.closed.copy_(basis.encode(coefficients[shut].float()).mean(0))
    if targets and "blink" in targets and (eyes := basis.blocks.get("eyes")) is not None:
        shut = targets["blink"].topk(max(1, round(SHUT_SHARE * count))).indices
        basis.closed[eyes] = basis.encode(coefficients[shut].float()).mean(0)[eyes]
    return basis


def fit_raw_basis(motion: Tensor) -> MotionBasis:
    """The paper's coefficients ``(N, M)``, each with its mean taken off and divided by its std; no blocks.

    Raises:
        ValueError: fewer than 4 M frames.
    """
    count, dim = motion.shape
    if count < FRAMES_PER_DIMENSION * dim:
        raise ValueError(f"{count} frames are too few for a basis of {dim} dimensions")
    basis, motion = MotionBasis(dim), motion.double()
    std = motion.std(0)
    std = std.clamp_min(std.max() * 1e-3)  # the floor of whitening
    basis.mean.copy_(motion.mean(0))
    basis.matrix.copy_(torch.diag(1 / std))
    basis.inverse.copy_(torch.diag(std))
    return basis


def basis_report(
    basis: MotionBasis, motion: Tensor, targets: Mapping[str, Tensor]
) -> dict[str, dict[str, float]]:
    """R2 of a linear readout of every target from every block (1 = fully told, 0 = no leakage).

    Args:
        basis: a basis with blocks.
        motion: ``(N, M)`` raw coefficients, best of clips that the basis was not fitted to.
        targets: name -> ``(N,)``.
    """
    coordinates = basis.encode(motion).double()
    coordinates = coordinates - coordinates.mean(0)

    def told(part: slice, target: Tensor) -> float:
        centred = (target.double() - target.double().mean())[:, None]
        solution = torch.linalg.lstsq(coordinates[:, part], centred).solution
        residual = centred - coordinates[:, part] @ solution
        return float(1 - residual.square().sum() / centred.square().sum().clamp_min(1e-12))

    return {n: {block: told(part, t) for block, part in basis.blocks.items()} for n, t in targets.items()}


def _readout(white: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Ridge regression of a standardised target ``(N,)`` on whitened motion ``(N, M)``: direction ``(M,)``."""
    target = (target - target.mean()) / target.std().clamp_min(1e-8)
    gram = white.t() @ white / len(white) + ridge * torch.eye(white.shape[1], dtype=white.dtype)
    return torch.linalg.solve(gram, white.t() @ target / len(white))


def _orthonormal(directions: list[Tensor], dim: int) -> Tensor:
    """Orthonormal rows ``(k, M)`` that span the given directions; near-dependent ones are dropped."""
    if not directions:
        return torch.zeros(0, dim, dtype=torch.double)
    stacked = torch.stack(directions)
    stacked = stacked / stacked.norm(dim=1, keepdim=True).clamp_min(1e-12)
    _, values, right = torch.linalg.svd(stacked, full_matrices=False)
    return right[values > INDEPENDENT]


def _unspanned(direction: Tensor, rows: Tensor) -> float:
    """Length of what remains of a unit vector ``(M,)`` outside the span of independent ``rows (k, M)``."""
    span = torch.linalg.qr(rows.t()).Q  # (M, k)
    return float((direction - span @ (span.t() @ direction)).norm())


def _complement(rows: Tensor, dim: int) -> Tensor:
    """Orthonormal rows of the orthogonal complement of ``rows (k, M)``."""
    if not len(rows):
        return torch.eye(dim, dtype=torch.double)
    _, _, right = torch.linalg.svd(rows, full_matrices=True)
    return right[len(rows) :]
