"""TalkingHead: a portrait and speech become frames. Inference alone; Lightning is not imported.

All motion is computed first (windows of 64 frames, each starting from the last frame of the one before), then rendered
in small batches, so that memory does not grow with the length of the speech except by 20 numbers a frame.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from datamodules.audio import fit_length, frame_count
from datamodules.batches import WINDOW
from datamodules.errors import UserError
from lightning_modules.audio_frontend import AudioFrontend
from lightning_modules.checkpoints import build_network, load_state, read_weights, write_weights
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.motion_intensity import scale_motion, scale_statistics
from lightning_modules.motion_sampling import sample_motion
from lightning_modules.networks.diffusion_transformer import DiffusionTransformer
from lightning_modules.networks.motion_autoencoder import MotionAutoencoder, SourceCode, repeat_code, to_size
from lightning_modules.networks.motion_basis import MotionBasis
from lightning_modules.networks.statistics_estimator import StatisticsEstimator, target_statistics

log = logging.getLogger(__name__)

PRETRAINED = Path(__file__).resolve().parent / "pretrained"
DEFAULT_MODEL = "synthetic-128"
STATISTICS_MODES = ("estimated", "none", "source", "previous")


@dataclass(frozen=True)
class GenerationOptions:
    """How motion is generated.

    Attributes:
        intensity: factor on how much head and the remaining motion move, >= 0; 1 = as estimated, 0 = the head rests.
        mouth_intensity: factor on the mouth's motion, >= 0; needs a model whose basis has blocks.
        statistics: where each window's motion statistics come from: ``estimated`` (sampled from the estimator), ``none``
            (both dropped), ``source`` (mean = motion of the portrait, std dropped), ``previous`` (mean = last frame of the
            previous window, std dropped), or a ``.npz`` file with ``mean`` (M) and ``std`` (M) in basis coordinates.
        std_quantile: replaces the std by this quantile (0..1) of the training windows' std; keeps the mode's mean.
        steps: sampler steps; None = the model's own.
        guidance: scale of the audio guidance; None = the model's own, 1 = off.
        seed: of all random numbers.
    """

    intensity: float = 1.0
    mouth_intensity: float = 1.0
    statistics: str = "estimated"
    std_quantile: float | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0


class TalkingHead(nn.Module):
    """The three trained stages put together for inference.

    Args:
        autoencoder: stage 1.
        basis: motion coordinates of stages 2 and 3.
        denoiser: network of stage 3.
        diffusion: its noise schedule, target, sampler and guidance.
        estimator: network of stage 2.
        frontend: waveform -> audio features.
        networks: plain configs of the networks by stage, written by ``save_pretrained``.
    """

    def __init__(
        self,
        autoencoder: MotionAutoencoder,
        basis: MotionBasis,
        denoiser: DiffusionTransformer,
        diffusion: GaussianDiffusion,
        estimator: StatisticsEstimator,
        frontend: AudioFrontend,
        networks: dict[str, dict[str, Any]],
    ) -> None:
        super().__init__()
        self.autoencoder, self.basis, self.denoiser = autoencoder, basis, denoiser
        self.diffusion, self.estimator, self.frontend = diffusion, estimator, frontend
        self.networks = networks
        self.eval().requires_grad_(False)

    @property
    def size(self) -> int:
        """Side of the frames in pixels."""
        return self.autoencoder.size

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.basis.mean.device

    @classmethod
    def from_pretrained(cls, folder: Path | str = DEFAULT_MODEL) -> "TalkingHead":
        """Load a published model folder, or a shipped model by its name.

        Raises:
            UserError: missing or damaged files, or weights that don't fit the config.
        """
        folder = resolve_model(folder)
        config = _read_config(folder / "config.yaml")
        built: dict[str, Any] = {stage: build_network(config["networks"][stage]).eval() for stage in STAGES}
        for stage in STAGES:
            path = folder / stage / "model.safetensors"
            load_state(built[stage], read_weights(path), path)
        basis = MotionBasis(built["autoencoder"].motion_dim)
        load_state(basis, read_weights(folder / "basis.safetensors"), folder / "basis.safetensors")
        return cls(
            built["autoencoder"],
            basis,
            built["diffusion"],
            GaussianDiffusion(**config["diffusion"]),
            built["statistics"],
            AudioFrontend(**config["audio"]),
            config["networks"],
        )

    def save_pretrained(self, folder: Path, half: bool = True) -> None:
        """Write the model folder: weights (float16 if ``half``), the basis in full precision, and ``config.yaml``."""
        stages = {"autoencoder": self.autoencoder, "statistics": self.estimator, "diffusion": self.denoiser}
        for stage, module in stages.items():
            write_weights(folder / stage / "model.safetensors", module, half)
        write_weights(folder / "basis.safetensors", self.basis, half=False)
        config = {
            "format": 1,
            "networks": self.networks,
            "diffusion": self.diffusion.settings(),
            "audio": {"name": self.frontend.name, "source": self.frontend.source},
        }
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")

    @torch.inference_mode()
    def prepare_source(self, image: Tensor) -> SourceCode:
        """Encode a portrait: everything that depends on the source alone.

        Args:
            image: ``(1, 3, H, W)`` or ``(3, H, W)`` float32 in [-1, 1], framed as training clips are; resized to S.
        """
        image = image[None] if image.ndim == 3 else image
        return self.autoencoder.encode(to_size(image.to(self.device), self.size))

    @torch.inference_mode()
    def motion_of(self, frames: Tensor, batch_size: int = 16) -> Tensor:
        """Raw motion ``(T, M)`` of frames ``(T, 3, H, W)`` float32 in [-1, 1]."""
        parts = [
            self.autoencoder.motion(to_size(chunk.to(self.device), self.size))
            for chunk in frames.split(batch_size)
        ]
        return torch.cat(parts)

    @torch.inference_mode()
    def generate_motion(
        self, source: SourceCode, waveform: np.ndarray | Tensor, options: GenerationOptions | None = None
    ) -> Tensor:
        """Raw motion ``(T, M)`` for speech, T = ceil(S / 640) frames at 25 fps.

        Args:
            source: of one portrait.
            waveform: ``(S,)`` float32 in [-1, 1] at 16 kHz, S >= 1.
            options: see ``GenerationOptions``.

        Raises:
            UserError: an option out of range, or one that this model can't follow.
        """
        options = options or GenerationOptions()
        samples = np.asarray(waveform, dtype=np.float32)
        frames = frame_count(len(samples))
        audio = self.frontend(torch.from_numpy(fit_length(samples, frames))[None].to(self.device))
        rest = self.basis.encode(source.motion)  # (1, M)
        coordinates, steered = self._sample(source, rest, audio, options)
        blocks = self.basis.blocks
        if steered and options.intensity != 1.0:
            # Scaled statistics are unlike any in training and disturb the lips: speech and blinks come from unscaled ones.
            plain, _ = self._sample(source, rest, audio, replace(options, intensity=1.0))
            for name in ("mouth", "eyes"):
                if name in blocks:
                    coordinates[..., blocks[name]] = plain[..., blocks[name]]
        # Where a std token carried the intensity, the motion itself is left alone but for the mouth.
        intensity = 1.0 if steered else options.intensity
        if intensity != 1.0:
            log.info(
                "no std steers this motion: intensity scales the generated motion about the portrait's own"
            )
        closed = self.basis.closed[blocks["mouth"]] if "mouth" in blocks else None
        coordinates = scale_motion(coordinates, rest, blocks, intensity, options.mouth_intensity, closed)
        return self.basis.decode(coordinates)[0].clamp(-1, 1)

    def _sample(
        self, source: SourceCode, rest: Tensor, audio: Tensor, options: GenerationOptions
    ) -> tuple[Tensor, bool]:
        """Motion ``(1, T, M)`` in basis coordinates, and whether a std token carried the intensity."""
        generator = torch.Generator().manual_seed(options.seed)
        statistics = WindowStatistics(self, source, rest, audio, options, generator)
        coordinates = sample_motion(
            self.denoiser,
            self.diffusion,
            audio,
            rest,
            statistics,
            steps=options.steps,
            guidance=options.guidance,
            generator=generator,
        )
        return coordinates, statistics.steers_std

    @torch.inference_mode()
    def render(self, source: SourceCode, motion: Tensor, batch_size: int = 8) -> Iterator[np.ndarray]:
        """Render frames uint8 ``(S, S, 3)`` of one source in raw motion ``(T, M)``, one after the other."""
        for chunk in motion.to(self.device).split(batch_size):
            decoded = self.autoencoder.decode(repeat_code(source, len(chunk)), chunk)
            pixels = ((decoded.frame.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            yield from pixels.permute(0, 2, 3, 1).cpu().numpy()

    def animate(
        self, image: Tensor, waveform: np.ndarray | Tensor, options: GenerationOptions | None = None
    ) -> Iterator[np.ndarray]:
        """Frames uint8 ``(S, S, 3)`` at 25 fps of a portrait ``(3, H, W)`` in [-1, 1] that speaks ``waveform``."""
        source = self.prepare_source(image)
        return self.render(source, self.generate_motion(source, waveform, options))


class WindowStatistics:
    """Mean and std handed to the diffusion model for each window, in basis coordinates.

    Args:
        model: the talking head.
        source: code of the portrait.
        rest: ``(1, M)`` its motion.
        audio: ``(1, 2T, D)`` features of the whole speech.
        options: generation options.
        generator: of the estimator's samples.
    """

    def __init__(
        self,
        model: TalkingHead,
        source: SourceCode,
        rest: Tensor,
        audio: Tensor,
        options: GenerationOptions,
        generator: torch.Generator,
    ) -> None:
        self.model, self.source, self.rest, self.audio = model, source, rest, audio
        self.options, self.generator = options, generator
        self.file = (
            None
            if options.statistics in STATISTICS_MODES
            else read_statistics(Path(options.statistics), model.basis.motion_dim)
        )
        if options.std_quantile is not None and not 0 <= options.std_quantile <= 1:
            raise UserError(f"std quantile is {options.std_quantile}: use a number from 0 to 1")
        # Refuses intensities that this model can't follow, before any work is done.
        scale_statistics(rest, rest, rest, model.basis.blocks, options.intensity, options.mouth_intensity)
        self.previous: tuple[Tensor, Tensor] | None = None

    @property
    def steers_std(self) -> bool:
        """Whether windows get a std token; without one, intensity scales the generated motion instead."""
        return (
            self.options.std_quantile is not None
            or self.file is not None
            or self.options.statistics == "estimated"
        )

    def __call__(self, window: int, generated: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Statistics of one window.

        Args:
            window: its index from 0.
            generated: ``(1, 65, M)`` hint and frames of the window before, None for the first.

        Returns:
            Mean and std ``(1, M)`` each; None = dropped.
        """
        mean, std = self._of_mode(window, generated)
        if self.options.std_quantile is not None:
            std = self.model.estimator.std_quantile(self.options.std_quantile)[None].to(self.rest)
        if std is None:
            return mean, None
        blocks, intensity = self.model.basis.blocks, self.options.intensity
        scaled, std = scale_statistics(self.rest if mean is None else mean, std, self.rest, blocks, intensity)
        return (None if mean is None else scaled), std

    def _of_mode(self, window: int, generated: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        mode = self.options.statistics
        if self.file is not None:
            return self.file[0].to(self.rest), self.file[1].to(self.rest)
        if mode == "estimated":
            return self._estimate(window)
        if mode == "source" or (mode == "previous" and generated is None):
            return self.rest, None
        if mode == "previous" and generated is not None:
            return generated[:, -1], None
        return None, None

    def _estimate(self, window: int) -> tuple[Tensor, Tensor]:
        """Sample from the estimator; the next window sees what was sampled here, before any scaling."""
        start = 2 * WINDOW * window
        audio = self.audio[:, start : start + 2 * WINDOW]
        missing = 2 * WINDOW - audio.shape[1]
        audio = torch.cat([audio, audio[:, -1:].expand(-1, missing, -1)], dim=1)
        known = self.previous is not None
        previous = (
            torch.stack(self.previous, dim=1)
            if self.previous
            else torch.zeros_like(self.rest).expand(2, -1)[None]
        )
        has_previous = torch.tensor([known], device=self.rest.device)
        mixture = self.model.estimator(audio, self.source.latent, self.rest, previous, has_previous)
        mean, std = target_statistics(mixture.sample(self.generator), self.rest)
        self.previous = (mean, std)
        return mean, std


STAGES = ("autoencoder", "statistics", "diffusion")


def resolve_model(name: Path | str) -> Path:
    """Folder of a model: a path, or the name of one that is shipped.

    Raises:
        UserError: neither.
    """
    for folder in (Path(name), PRETRAINED / str(name)):
        if (folder / "config.yaml").is_file():
            return folder
    shipped = sorted(p.parent.name for p in PRETRAINED.glob("*/config.yaml"))
    raise UserError(
        f"{name}: no model folder (with config.yaml) and no shipped model; shipped: {', '.join(shipped) or 'none'}"
    )


def read_statistics(path: Path, motion_dim: int) -> tuple[Tensor, Tensor]:
    """Window mean and std ``(1, M)`` each from a ``.npz`` file with the arrays ``mean`` and ``std``.

    Raises:
        UserError: missing or unreadable file, or arrays of another shape, or a std that is not positive and finite.
    """
    if not path.is_file():
        modes = ", ".join(STATISTICS_MODES)
        raise UserError(f"{path}: no such statistics file; give a .npz file or one of {modes}")
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, std = (np.asarray(file[name], dtype=np.float32) for name in ("mean", "std"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: needs a .npz file with the arrays mean and std ({error})") from error
    if mean.shape != (motion_dim,) or std.shape != (motion_dim,):
        raise UserError(
            f"{path}: mean and std must have shape ({motion_dim},), got {mean.shape} and {std.shape}"
        )
    if not np.isfinite(mean).all() or not np.isfinite(std).all() or (std < 0).any():
        raise UserError(f"{path}: mean and std must be finite and std not negative")
    return torch.from_numpy(mean)[None], torch.from_numpy(std)[None]


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        assert isinstance(config, dict)
        missing = [key for key in ("networks", "diffusion", "audio") if key not in config]
    except Exception as error:  # yaml and omegaconf raise several kinds
        raise UserError(f"{path}: can't be read as a model config ({type(error).__name__})") from error
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; is it the config of a model folder?")
    return config  # type: ignore[return-value]
