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
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.media.audio import fit_length, frame_count
from datamodules.media.pictures import to_pixels
from lightning_modules.audio_frontend import AudioFrontend
from lightning_modules.checkpoints import build_network, load_state, read_weights, write_weights
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.generation.intensity import MAX_FACTOR, intensity_factors, scale_motion
from lightning_modules.generation.sampling import sample_motion
from lightning_modules.generation.statistics import STATISTICS_MODES, WindowStatistics, read_statistics
from lightning_modules.networks.diffusion_transformer import DiffusionTransformer
from lightning_modules.networks.motion_basis import MotionBasis
from lightning_modules.networks.renderer import Renderer, SourceCode, repeat_code, to_size
from lightning_modules.networks.statistics_estimator import StatisticsEstimator

log = logging.getLogger(__name__)

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"
DEFAULT_MODEL = "synthetic-128"
SCALINGS = ("motion", "statistics")
FORMAT = 2
"""Version of the model folder; raised when folders of before can't be loaded any more."""


@dataclass(frozen=True)
class GenerationOptions:
    """How motion is generated.

    Attributes:
        intensity: factor on how much head and the remaining motion move, >= 0; 1 = as estimated, 0 = the head rests.
        scaling: what the intensity scales: the generated ``motion`` about the portrait's own (exact: at 0 the head rests), or
            the ``statistics`` that the diffusion model is given (the paper's way: as exact as the model follows them).
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
    scaling: str = "motion"
    mouth_intensity: float = 1.0
    statistics: str = "estimated"
    std_quantile: float | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0

    def check(self, model: "TalkingHead") -> None:
        """Refuse what can't be generated, before any work is done.

        Raises:
            UserError: a number out of range, a mouth intensity for a model whose basis has no mouth, no such statistics.
        """
        intensity_factors(model.basis.blocks, model.basis.motion_dim, self.intensity, self.mouth_intensity)
        if self.scaling not in SCALINGS:
            raise UserError(f"scaling is {self.scaling!r}: choose one of {', '.join(SCALINGS)}")
        if self.std_quantile is not None and not 0 <= self.std_quantile <= 1:
            raise UserError(f"std quantile is {self.std_quantile}: use a number from 0 to 1")
        if self.statistics not in STATISTICS_MODES:
            read_statistics(Path(self.statistics), model.basis.motion_dim)
        if self.steps is not None and self.steps < 1:
            raise UserError(f"steps is {self.steps}: use a whole number from 1")
        if self.guidance is not None and not abs(self.guidance) <= MAX_FACTOR:
            raise UserError(f"guidance is {self.guidance}: use a number of at most {MAX_FACTOR}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}: use a whole number from 0 to 2^63 - 1")


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
        autoencoder: Renderer,
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
        path = folder / "config.yaml"
        config = _read_config(path)
        try:
            built: dict[str, Any] = {
                stage: build_network(config["networks"][stage]).eval() for stage in STAGES
            }
            basis = MotionBasis(built["autoencoder"].motion_dim)
            diffusion = GaussianDiffusion(**config["diffusion"])
            frontend = AudioFrontend(**config["audio"])
        except (KeyError, TypeError, AttributeError, ValueError, InstantiationException) as error:
            raise UserError(f"{path}: is no config of a model that can be built ({error})") from error
        for stage in STAGES:
            weights = folder / stage / "model.safetensors"
            load_state(built[stage], read_weights(weights), weights)
        load_state(basis, read_weights(folder / "basis.safetensors"), folder / "basis.safetensors")
        return cls(
            built["autoencoder"],
            basis,
            built["diffusion"],
            diffusion,
            built["statistics"],
            frontend,
            config["networks"],
        )

    def save_pretrained(self, folder: Path, half: bool = True) -> None:
        """Write the model folder: weights (float16 if ``half``), the basis in full precision, and ``config.yaml``."""
        stages = {"autoencoder": self.autoencoder, "statistics": self.estimator, "diffusion": self.denoiser}
        for stage, module in stages.items():
            write_weights(folder / stage / "model.safetensors", module, half)
        write_weights(folder / "basis.safetensors", self.basis, half=False)
        config = {
            "format": FORMAT,
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
        options.check(self)
        samples = np.asarray(waveform, dtype=np.float32)
        frames = frame_count(len(samples))
        audio = self.frontend(torch.from_numpy(fit_length(samples, frames))[None].to(self.device))
        rest = self.basis.encode(source.motion)  # (1, M)
        blocks = self.basis.blocks
        plain, _ = self._sample(source, rest, audio, replace(options, intensity=1.0))
        coordinates, intensity = plain, options.intensity
        if options.scaling == "statistics" and intensity != 1.0:
            scaled, steered = self._sample(source, rest, audio, options)
            if steered:
                coordinates, intensity = scaled, 1.0
                if "mouth" in blocks:  # scaled statistics are unlike any in training and disturb the lips
                    coordinates[..., blocks["mouth"]] = plain[..., blocks["mouth"]]
            else:
                log.info("no std steers this motion: intensity scales the generated motion itself")
        if "eyes" in blocks and options.statistics != "none":
            # A blink is in some windows and not in others: given estimated statistics the lids hardly move.
            free = replace(options, intensity=1.0, statistics="none", std_quantile=None)
            coordinates[..., blocks["eyes"]] = self._sample(source, rest, audio, free)[0][..., blocks["eyes"]]
        closed = self.basis.closed[blocks["mouth"]] if "mouth" in blocks else None
        # Less motion rests at the portrait; more swings wider about its own mean, and doesn't leave the portrait further.
        centre = rest if intensity <= 1 else coordinates.mean(dim=1)
        coordinates = scale_motion(coordinates, centre, blocks, intensity, options.mouth_intensity, closed)
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
            yield from to_pixels(decoded.frame)

    def animate(
        self, image: Tensor, waveform: np.ndarray | Tensor, options: GenerationOptions | None = None
    ) -> Iterator[np.ndarray]:
        """Frames uint8 ``(S, S, 3)`` at 25 fps of a portrait ``(3, H, W)`` in [-1, 1] that speaks ``waveform``."""
        source = self.prepare_source(image)
        return self.render(source, self.generate_motion(source, waveform, options))


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


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        assert isinstance(config, dict)
        missing = [key for key in ("networks", "diffusion", "audio") if key not in config]
    except Exception as error:  # yaml and omegaconf raise several kinds
        raise UserError(f"{path}: can't be read as a model config ({type(error).__name__})") from error
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; is it the config of a model folder?")
    if config.get("format") != FORMAT:
        raise UserError(
            f"{path}: model folder of format {config.get('format')}, this version reads {FORMAT}; package the runs again"
        )
    return config  # type: ignore[return-value]
