"""Where the motion statistics of each window come from when motion is generated."""

import io
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from datamodules.batches import WINDOW
from datamodules.errors import UserError
from datamodules.files import require_file
from lightning_modules.generation.motion_intensity import scale_statistics
from lightning_modules.generation.options import STATISTICS_MODES, GenerationOptions
from lightning_modules.networks.base_renderer import SourceEncoding
from lightning_modules.networks.statistics_estimator import window_statistics, within_reach

if TYPE_CHECKING:
    from lightning_modules.generation.talking_head import TalkingHead


USUAL_STD = 0.7
"""Of a window, in coordinates whose variance over all windows is 1."""
MAX_BYTES = 2**20
"""Of a file of statistics, and of an array in it."""


class StatisticsConditioner:
    """Mean and std handed to the diffusion model for each window, in basis coordinates.

    Attributes:
        asked: Std ``(1, M)`` of every window so far that got one.

    Args:
        model: the talking head.
        source: the encoded portrait.
        rest: ``(1, M)`` its motion.
        audio: ``(1, 2T, D)`` features of the whole speech.
        options: generation options.
        generator: of the estimator's samples.
    """

    def __init__(
        self,
        model: "TalkingHead",
        source: SourceEncoding,
        rest: Tensor,
        audio: Tensor,
        options: GenerationOptions,
        generator: torch.Generator,
    ) -> None:
        self.model, self.source, self.rest, self.audio = model, source, rest, audio
        self.options, self.generator = options, generator
        self.file: tuple[Tensor, Tensor] | None = None
        if options.statistics not in STATISTICS_MODES:
            self.file = read_statistics(Path(options.statistics), model.basis.motion_dim)
        self.previous: tuple[Tensor, Tensor] | None = None
        self.asked: list[Tensor] = []

    @property
    def by_construction(self) -> bool:
        """Whether each window has the statistics that it is given, whatever the model makes of their tokens."""
        return self.model.diffusion.by_construction

    @property
    def steers_std(self) -> bool:
        """Whether windows are told their std; if not, intensity scales the generated motion instead."""
        if "std" not in self.model.denoiser.tokens:
            return False
        by_mode = self.options.statistics == "estimated" or self.file is not None
        return by_mode or self.options.std_quantile is not None

    def __call__(self, start: int, motion: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Mean and std ``(1, M)`` of one window, None where dropped; the arguments are those of a `StatisticsProvider`."""
        before = motion[:, -1]
        if start < WINDOW:  # as in training, where a window before that is not whole is not known
            self.previous = None
        elif self.options.intensity == 1:  # scaled motion says nothing of how lively what follows should be
            self.previous = window_statistics(motion[:, -WINDOW - 1 :])
        mean, std = self._of_mode(start, before)
        if self.options.std_quantile is not None:
            assert self.model.estimator is not None  # the options were checked
            std = self.model.estimator.std_quantile(self.options.std_quantile)[None].to(self.rest)
        if self.by_construction:
            if mean is None or std is None:
                usual = self._usual(before)
                mean, std = usual[0] if mean is None else mean, usual[1] if std is None else std
            if self.file is None:  # what somebody asks for is not brought nearer
                mean = within_reach(mean, std, before)
        if std is None:
            return mean, None
        blocks, intensity = self.model.basis.blocks, self.options.intensity
        scaled, std = scale_statistics(self.rest if mean is None else mean, std, self.rest, blocks, intensity)
        self.asked.append(std)
        return (None if mean is None else scaled), std

    def _of_mode(self, start: int, before: Tensor) -> tuple[Tensor | None, Tensor | None]:
        mode = self.options.statistics
        if self.file is not None:
            return self.file[0].to(self.rest), self.file[1].to(self.rest)
        if mode == "estimated":
            return self._estimate(start, before)
        if mode == "none":
            return None, None
        return (self.rest if mode == "source" else before), None

    def _usual(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Statistics of a window of anything, drawn from those of all training windows; usual ones without an estimator."""
        if self.model.estimator is None:
            return torch.zeros_like(before), torch.full_like(before, USUAL_STD)
        drawn = self.model.estimator.unconditional().sample(self.generator)
        return self.model.estimator.statistics(drawn, self.rest, before)

    def _estimate(self, start: int, before: Tensor) -> tuple[Tensor, Tensor]:
        """Sample from the estimator, which sees the statistics of the window before; as sampled, where motion is scaled.

        The mouth's are as much nearer to what is expected as its temperature says.
        """
        audio = self.audio[:, 2 * start : 2 * (start + WINDOW)]
        missing = WINDOW - audio.shape[1] // 2  # frames, of two vectors each
        audio = torch.cat([audio, audio[:, -2:].repeat(1, missing, 1)], dim=1)
        previous = torch.stack(self.previous or (torch.zeros_like(self.rest),) * 2, dim=1)  # (1, 2, M)
        has_previous = torch.tensor([self.previous is not None], device=self.rest.device)
        estimator = self.model.estimator
        assert estimator is not None  # the options were checked
        mixture = estimator(audio, self.source.latent, self.rest, before, previous, has_previous)
        expected, factors = mixture.mean(), self.model.mouth_factors(self.options).to(self.rest).repeat(2)
        drawn = expected + factors * (mixture.sample(self.generator) - expected)
        self.previous = estimator.statistics(drawn, self.rest, before)
        return self.previous


def read_statistics(path: Path, motion_dim: int) -> tuple[Tensor, Tensor]:
    """Window mean and std ``(1, M)`` each from a ``.npz`` file with the arrays ``mean`` and ``std``.

    Raises:
        UserError: missing or unreadable file, or arrays of another shape, or a std that is not positive and finite.
    """
    try:
        if require_file(path, "statistics").stat().st_size > MAX_BYTES:
            raise ValueError(f"over {MAX_BYTES // 2**20} MB")
        with ZipFile(path) as archive:
            arrays = [_read_vector(archive, name) for name in ("mean.npy", "std.npy")]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, RuntimeError, zlib.error) as error:
        told = f"needs a .npz file with the arrays mean and std ({' '.join(str(error).split())})"
        raise UserError(f"{path}: {told}") from error
    mean, std = arrays
    if mean.shape != (motion_dim,) or std.shape != (motion_dim,):
        raise UserError(
            f"{path}: mean and std must have shape ({motion_dim},), got {mean.shape} and {std.shape}"
        )
    if not np.isfinite([mean, std]).all() or (std < 0).any():
        raise UserError(f"{path}: mean and std must be finite and std not negative")
    return torch.from_numpy(mean)[None], torch.from_numpy(std)[None]


def _read_vector(archive: ZipFile, name: str) -> np.ndarray:
    """An array of numbers in a ``.npz`` file as float32; neither what it unpacks to nor what its head claims is large.

    Raises:
        ValueError: It is, or it is no array of numbers.
    """
    if archive.getinfo(name).file_size > MAX_BYTES:
        raise ValueError(f"{name} is over {MAX_BYTES // 2**20} MB")
    with archive.open(name) as packed:
        file = io.BytesIO(packed.read(MAX_BYTES))
    major, _ = np.lib.format.read_magic(file)
    read_head = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_head(file)
    held = len(file.getbuffer()) - file.tell()
    if dtype.kind not in "fiu" or math.prod(shape) * dtype.itemsize != held:
        raise ValueError(f"{name} claims {shape} of {dtype} in {held} bytes")
    return np.frombuffer(file.getbuffer(), dtype, offset=file.tell()).reshape(shape).astype(np.float32)
