"""TalkingHead: a portrait and speech become frames. Inference alone; Lightning is not imported.

All motion is computed first (windows of 64 frames, each going on from the frames before it), then rendered
in small batches, so that memory does not grow with the length of the speech except by its sound, its features and 20
numbers a frame.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.batches import WINDOW
from datamodules.errors import UserError
from datamodules.media.audio import fit_length, frame_count
from lightning_modules.audio_frontend import OPTION, AudioFrontend, load_frontend
from lightning_modules.checkpoints import load_basis, load_planned, plan_named, write_json
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.generation.landmark_warps import eyes_at, find_points, how_far_shut, with_lips_shut
from lightning_modules.generation.motion_intensity import intensity_factors, scale_motion
from lightning_modules.generation.motion_sampling import sample_motion, speech_seed
from lightning_modules.generation.options import GenerationOptions
from lightning_modules.generation.reenactment import Reenactor
from lightning_modules.generation.statistics_conditioning import StatisticsConditioner
from lightning_modules.model_folder import (
    AUDIO_FOLDER,
    BASIS_NAME,
    CONFIG_NAME,
    DEFAULT_MODEL,
    STAGES,
    ModelConfig,
    read_model_config,
    resolve_model,
    weights_name,
)
from lightning_modules.networks.base_renderer import Renderer, SourceEncoding
from lightning_modules.networks.diffusion_transformer import DiffusionTransformer
from lightning_modules.networks.motion_basis import MotionBasis
from lightning_modules.networks.registry import checked_arguments, network_spec
from lightning_modules.networks.statistics_estimator import StatisticsEstimator
from lightning_modules.weights import write_weights

log = logging.getLogger(__name__)


class GeneratedMotion(NamedTuple):
    """Raw motion ``(T, M)``, and the std ``(W, M)`` that each of its windows was to have.

    The std is in basis coordinates, as the intensities scale it; None where no statistics ask for one.
    """

    motion: Tensor
    requested: Tensor | None


class TalkingHead(Reenactor):
    """The trained stages put together for inference.

    Networks that are still being trained may be put in, too, in evaluation mode: nothing of them is changed.

    Args:
        autoencoder: Stage 1.
        basis: Motion coordinates of stages 2 and 3.
        denoiser: Network of stage 3.
        diffusion: Its noise schedule, target, sampler and guidance.
        estimator: Network of stage 2; without one, statistics are dropped or come from the source or a file.
        frontend: Waveform -> audio features; without one, features are what motion is generated from.
    """

    def __init__(
        self,
        autoencoder: Renderer,
        basis: MotionBasis,
        denoiser: DiffusionTransformer,
        diffusion: GaussianDiffusion,
        estimator: StatisticsEstimator | None = None,
        frontend: AudioFrontend | None = None,
    ) -> None:
        super().__init__(autoencoder)
        self.basis, self.denoiser, self.diffusion = basis, denoiser, diffusion
        self.estimator, self.frontend = estimator, frontend

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str = DEFAULT_MODEL,
        speech_model: Path | str | None = None,
        hears: bool = True,
    ) -> "TalkingHead":
        """Load a model folder, or a shipped model by its name. A folder of anyone: nothing in it is run.

        Args:
            folder: Model folder or name.
            speech_model: Folder or hub name of the speech model, for a model that hears by one and whose folder holds none.
            hears: Whether it is to hear speech; if not, no speech model is loaded, and motion comes from features alone.

        Raises:
            UserError: Missing or damaged files, weights that don't fit the config, stages that don't fit each other, or no
                speech model, or another than that of the training.
        """
        folder = resolve_model(folder)
        config = read_model_config(folder)
        source = folder / CONFIG_NAME
        plans: dict[str, Any] = {stage: plan_named(config.networks[stage], source) for stage in STAGES}
        _check_stages(plans, source)
        settings = checked_arguments(GaussianDiffusion, config.diffusion, f"{source}: diffusion")
        place = folder / AUDIO_FOLDER
        frontend = load_frontend(config.audio, place, speech_model, config.identity) if hears else None
        if frontend is not None and frontend.dim != plans["diffusion"].audio_encoder.in_dim:
            way = (
                ""
                if frontend.speech_model is None
                else f": name the speech model of its training by {OPTION}"
            )
            raise UserError(f"{source}: its networks don't take the features of {config.audio}{way}")
        built: dict[str, Any] = {s: load_planned(plans[s], folder, weights_name(s)) for s in STAGES}
        basis = load_basis(plans["autoencoder"].motion_dim, folder, BASIS_NAME)
        diffusion = GaussianDiffusion(**settings)
        model = cls(built["autoencoder"], basis, built["diffusion"], diffusion, built["statistics"], frontend)
        return model.eval().requires_grad_(False)

    def save_pretrained(self, folder: Path, half: bool = True) -> None:
        """Write the model folder: weights (float16 if ``half``), the basis in full precision, and ``config.json``.

        Raises:
            UserError: The model lacks a stage or a front end.
        """
        if self.estimator is None or self.frontend is None:
            raise UserError("a model folder needs an estimator of motion statistics and an audio front end")
        stages = {"autoencoder": self.autoencoder, "statistics": self.estimator, "diffusion": self.denoiser}
        heard = self.frontend.name, None if self.frontend.speech_model is None else self.frontend.identity()
        write_model_folder(folder, stages, self.basis, self.diffusion, *heard, half)

    def prepare_source(
        self, image: Tensor, size: int | None = None, lids: bool = False, shut_lips: bool = False
    ) -> SourceEncoding:
        """As `Reenactor.prepare_source`, and what `landmark_warps` does to a portrait in which MediaPipe sees a face.

        Args:
            image: The portrait.
            size: Side of the frames.
            lids: Whether its lids are drawn down where they shut; of a renderer that moves the portrait's pixels.
            shut_lips: Whether lips that show teeth are drawn together first, to open and close from there.
        """
        lids = lids and self.autoencoder.moves_pixels
        points = find_points(image) if lids or shut_lips else None
        if points is None:
            return super().prepare_source(image, size)
        if shut_lips:
            image = with_lips_shut(image.reshape(-1, *image.shape[-3:]), points)
        source = super().prepare_source(image, size)
        return source._replace(eyes=eyes_at(points, source.image)) if lids else source

    def lids_shut(self, motion: Tensor) -> Tensor | None:
        """To which share ``(T,)`` lids are shut, by the basis; None of one that doesn't know the eyes."""
        block = self.basis.blocks.get("eyes")
        if block is None:
            return None
        return how_far_shut(self.basis.shutting * self.basis.encode(motion)[:, block].mean(dim=1))

    def generate_motion(
        self, source: SourceEncoding, waveform: np.ndarray | Tensor, options: GenerationOptions | None = None
    ) -> Tensor:
        """Raw motion ``(T, M)`` of one portrait for speech, T = ceil(S / 640) frames at 25 fps.

        The waveform is ``(S,)`` float32 in [-1, 1] at 16 kHz, S >= 1.

        Raises:
            UserError: Options that this model can't follow.
        """
        return self.motion_from_features(source, self.speech_features(waveform), options)

    @torch.inference_mode()
    def speech_features(self, waveform: np.ndarray | Tensor) -> Tensor:
        """Audio features ``(1, 2T, D)`` of a waveform ``(S,)``, padded with silence to whole frames."""
        assert self.frontend is not None, "no front end: give features"
        samples = np.asarray(waveform, dtype=np.float32)
        padded = fit_length(samples, frame_count(len(samples)))
        return self.frontend(torch.from_numpy(padded)[None].to(self.device))

    @torch.inference_mode()
    def motion_from_features(
        self, source: SourceEncoding, audio: Tensor, options: GenerationOptions | None = None
    ) -> Tensor:
        """Raw motion ``(T, M)`` for audio features ``(1, 2T, D)``; the rest as `generate_motion`."""
        return self.motion_and_request(source, audio, options).motion

    @torch.inference_mode()
    def motion_and_request(
        self, source: SourceEncoding, audio: Tensor, options: GenerationOptions | None = None
    ) -> GeneratedMotion:
        """As `motion_from_features`, and which std each window was to have."""
        options = options or GenerationOptions()
        options.check(self)
        blocks = self.basis.blocks
        rest = self.basis.encode(source.motion)  # (1, M)
        by_construction = self.diffusion.by_construction
        # 1. The motion as the statistics say, at intensity 1.
        plain, given = self._sample(source, rest, audio, replace(options, intensity=1.0))
        coordinates, intensity = plain, options.intensity
        # 2. Of other models, scaled statistics steer a second one; they are unlike any in training and disturb the lips, so
        #    the first's stay.
        statistics = options.scaling_of(by_construction) == "statistics"
        if statistics and intensity != 1.0 and not by_construction:
            steered, scaled = self._sample(source, rest, audio, options)
            if scaled.steers_std:
                coordinates, intensity = self._with_block(steered, plain, "mouth"), 1.0
            else:
                log.info("no std steers this motion: intensity scales the generated motion itself")
        # 3. Eyes of a third one without statistics: a blink is in some windows and not in others, so that given estimated
        #    statistics the lids of such a model hardly move.
        if "eyes" in blocks and options.statistics != "none" and not by_construction:
            free = replace(options, intensity=1.0, statistics="none", std_quantile=None)
            coordinates = self._with_block(coordinates, self._sample(source, rest, audio, free)[0], "eyes")
        # 4. What no statistics scaled is scaled about the portrait: where windows have the statistics that they are given,
        #    mean and std of each are then scaled, and nothing else. As motion alone, more swings wider about its own mean,
        #    and doesn't leave the portrait further; lids alone keep to it.
        about_portrait = intensity <= 1 or (statistics and by_construction)
        centre = rest if about_portrait else self._with_block(coordinates.mean(dim=1), rest, "eyes")
        closed = self.basis.closed[blocks["mouth"]] if "mouth" in blocks else None
        mouth, eyes = options.mouth_intensity, options.eyes_intensity
        coordinates = scale_motion(coordinates, centre, blocks, intensity, mouth, eyes, closed)
        factors = intensity_factors(blocks, rest.shape[-1], options.intensity, mouth, eyes)
        requested = factors.to(rest) * torch.cat(given.asked) if given.asked else None
        return GeneratedMotion(self.basis.coefficients(coordinates)[0], requested)

    def _sample(
        self, source: SourceEncoding, rest: Tensor, audio: Tensor, options: GenerationOptions
    ) -> tuple[Tensor, StatisticsConditioner]:
        """Motion ``(1, T, M)`` in basis coordinates, and what gave its windows their statistics."""
        generator = torch.Generator().manual_seed(speech_seed(options.seed, audio))
        statistics = StatisticsConditioner(self, source, rest, audio, options, generator)
        settings: dict[str, Any] = {
            "steps": options.steps,
            "guidance": options.guidance,
            "statistics_guidance": options.statistics_guidance,
            "temperature": options.temperature * self.mouth_factors(options).to(rest),
            "generator": generator,
        }
        coordinates = sample_motion(self.denoiser, self.diffusion, audio, rest, statistics, **settings)
        return coordinates, statistics

    def mouth_factors(self, options: GenerationOptions) -> Tensor:
        """Factors ``(M,)`` on what is drawn and not told by the speech: the mouth's temperature there, 1 elsewhere."""
        asked = options.mouth_temperature
        factors = torch.ones(self.basis.motion_dim)
        if "mouth" in self.basis.blocks:
            factors[self.basis.blocks["mouth"]] = self.diffusion.mouth_temperature if asked is None else asked
        return factors

    def _with_block(self, coordinates: Tensor, other: Tensor, block: str) -> Tensor:
        """Motion ``(..., M)`` with one block of the basis, if it has it, from another motion of that shape."""
        if block not in self.basis.blocks:
            return coordinates
        mixed, part = coordinates.clone(), self.basis.blocks[block]
        mixed[..., part] = other[..., part]
        return mixed

    def animate(
        self,
        image: Tensor,
        waveform: np.ndarray | Tensor,
        options: GenerationOptions | None = None,
        size: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Frames uint8 ``(S, S, 3)`` at 25 fps of a portrait ``(3, H, W)`` in [-1, 1] that speaks ``waveform``.

        Their side S is ``size``, one of ``sizes``; None: ``usual_size``, that of `ifmdm generate`.

        Raises:
            UserError: This model doesn't render frames of that size, or options that it can't follow.
        """
        side = self.usual_size if size is None else size
        source = self.prepare_source(image, side, lids=True, shut_lips=True)
        return self.render(source, self.generate_motion(source, waveform, options))


def write_model_folder(
    folder: Path,
    networks: dict[str, Any],
    basis: MotionBasis,
    diffusion: GaussianDiffusion,
    audio: str,
    identity: str | None = None,
    half: bool = True,
) -> None:
    """Write a model folder of the network of each stage, the audio front end's name and its speech model's identity.

    With ``half`` the networks' matrices and kernels are float16 (see `write_weights`), the basis is not.

    Raises:
        UserError: The stages don't fit each other.
    """
    _check_stages(networks, folder)
    for stage in STAGES:
        write_weights(folder / weights_name(stage), networks[stage], half)
    write_weights(folder / BASIS_NAME, basis, half=False)
    specs = {stage: network_spec(networks[stage]) for stage in STAGES}
    write_json(folder / CONFIG_NAME, ModelConfig(specs, diffusion.settings(), audio, identity).as_dict())


def _check_stages(networks: dict[str, Any], source: Path) -> None:
    """Refuse networks that are not of their stages, or don't fit each other."""
    autoencoder, estimator, denoiser = (networks[stage] for stage in STAGES)
    kinds = {
        "autoencoder": isinstance(autoencoder, Renderer),
        "statistics": hasattr(estimator, "std_quantile"),
        "diffusion": hasattr(denoiser, "denoise"),
    }
    if wrong := [stage for stage, right in kinds.items() if not right]:
        raise UserError(f"{source}: the network of stage {wrong[0]} is one of another kind")
    if not autoencoder.motion_dim == estimator.motion_dim == denoiser.motion_dim:
        raise UserError(f"{source}: the stages have different numbers of motion coefficients")
    if estimator.audio_encoder.in_dim != denoiser.audio_encoder.in_dim:
        raise UserError(f"{source}: the stages take different audio features")
    if estimator.appearance_dim != autoencoder.latent_dim:
        raise UserError(f"{source}: the estimator takes another appearance latent than stage 1 gives")
    if denoiser.window != WINDOW:
        raise UserError(f"{source}: windows of {denoiser.window} frames; this version generates {WINDOW}")
