"""``ifmdm encode``: latents of a dataset by a trained autoencoder, and the motion basis fitted to them.

The only place that makes latents. Several processes of one machine share the work, and so do several calls (``shard=I/N``). A
part of the cache appears whole or not at all, so what was stopped goes on where it was. Whoever finds the cache complete
fits the basis.
"""

import argparse
import contextlib
import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from datamodules.errors import UserError
from datamodules.files import folder_lock
from datamodules.processes import cores_of_process
from datamodules.progress import show_progress
from experiments.config import compose, instantiate, override, resolve
from experiments.config_checks import require_source

if TYPE_CHECKING:  # torch takes seconds to import: a wrong word is refused before that
    import numpy as np
    from torch import Tensor

    from datamodules.clips.clip_store import ClipStore
    from datamodules.clips.manifest import ClipRecord
    from datamodules.talking_head import TalkingHeadDataModule
    from lightning_modules.networks.motion_basis import MotionBasis

log = logging.getLogger(__name__)

SCHEMA = 2
"""Raised when the meaning of cached values changes, so that old caches are left alone."""
FRAMES_PER_WORKER = 4000
"""A process on a CPU takes seconds to start: for fewer frames none is."""
FRAMES_PER_STEP = 16
"""Frames that pass the autoencoder at once."""


@dataclass(frozen=True)
class Latents:
    """What the stages on latents learn from: the folder of the cache, and the motion basis of the training clips."""

    folder: Path
    basis: "MotionBasis"


class ClipEncoder:
    """An autoencoder and an audio front end; in another process both are read from their files again.

    Args:
        autoencoder: run or model that has stage 1; see ``find_weights``.
        audio: config of the front end.
    """

    def __init__(self, autoencoder: str, audio: dict[str, Any]) -> None:
        from lightning_modules.checkpoints import load_autoencoder

        self.recipe = autoencoder, audio
        self.autoencoder, _ = load_autoencoder(autoencoder)
        self.frontend = instantiate(audio)
        self.size, self.motion_dim = self.autoencoder.size, self.autoencoder.motion_dim

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return ClipEncoder, self.recipe

    def parts(self) -> tuple[str | int, ...]:
        """Hashes of both networks, the picture size and the version of the format."""
        from lightning_modules.checkpoints import motion_space_of

        return motion_space_of(self.autoencoder), self.frontend.identity(), self.size, SCHEMA

    def to(self, device: str) -> "ClipEncoder":
        """The same, computing on that device."""
        self.autoencoder.to(device)
        self.frontend.to(device)
        return self

    def __call__(self, frames: "np.ndarray", waveform: "np.ndarray") -> "dict[str, Tensor]":
        """Latents on the CPU, see ``datamodules.latent_writing.Encode``."""
        import torch

        from datamodules.media.pictures import to_float

        device = next(self.autoencoder.parameters()).device
        motion, appearance = [], []
        for start in range(0, len(frames), FRAMES_PER_STEP):
            code = self.autoencoder.encode(to_float(frames[start : start + FRAMES_PER_STEP]).to(device))
            motion.append(code.motion.cpu())
            appearance.append(code.latent.cpu())
        return {
            "motion": torch.cat(motion),
            "appearance": torch.cat(appearance),
            "audio": self.frontend(torch.from_numpy(waveform)[None].to(device))[0].cpu(),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm encode``."""
    parser.description = (
        "Latents of a dataset: autoencoder=RUN data=NAME data.root=DIR [audio.name=...] [workers=N] [shard=I/N]; or the "
        "words of the training that shall use them."
    )
    words = "Hydra overrides, as for ifmdm train"
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=words)


def run(args: argparse.Namespace) -> int:
    """Encode as the command line says, and print the folder of the cache when it is complete."""
    config = compose(args.overrides, "encode")
    if not config.autoencoder:
        raise UserError("encode needs autoencoder=RUN, a run or model with a trained stage 1")
    shard = parse_shard(config.shard)
    require_source("autoencoder", config.autoencoder)
    latents = encode_data(config, shard, config.workers)
    if latents is not None:
        print(latents.folder)
    return 0


def parse_shard(text: str | None) -> tuple[int, int]:
    """``I/N`` as numbers from 1; all of the work if there is none."""
    match = re.fullmatch(r"(\d+)/(\d+)", str(text or "1/1"))
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"shard={text}: is not I/N with I from 1 to N, such as 1/8")
    return int(match[1]), int(match[2])


def encode_data(
    config: DictConfig, shard: tuple[int, int] = (1, 1), workers: int | None = None
) -> Latents | None:
    """Latents of the training and validation clips of a config (``encode`` or ``train``), made where they are missing.

    Of the config ``autoencoder``, ``audio`` and ``data`` are used; for the rest see ``encode_clips``.

    Raises:
        UserError: data, autoencoder or front end are missing or do not fit.
    """
    encoder, data = _open(config)
    data.prepare_data()
    latents = encode_clips(_records(data), data.store(), encoder, data.latents, shard, workers, config.basis)
    if latents is not None and data.undrawn:
        _add_undrawn(data, encoder, latents.folder, workers)
    return latents


def _add_undrawn(
    data: "TalkingHeadDataModule", encoder: ClipEncoder, folder: Path, workers: int | None
) -> None:
    """Latents of speeches that nobody drew, beside those of the clips; what is there already is kept."""
    import torch

    from datamodules.latents import LatentCache, made_from
    from datamodules.synthetic_faces.undrawn import MotionMap, undrawn_settings, write_undrawn
    from lightning_modules.networks.motion_basis import bent, straightened

    count, seconds, records = data.undrawn, data.undrawn_seconds, data.records("train")
    undrawn_settings(
        data.root, count, seconds
    )  # a folder without synthetic heads is refused before anything is read
    device = next(encoder.autoencoder.parameters()).device

    def hear(waveform: "np.ndarray") -> "Tensor":
        with torch.inference_mode():
            return encoder.frontend(torch.from_numpy(waveform)[None].to(device))[0]

    with folder_lock(folder), show_progress("speaking") as show:
        cache = LatentCache(folder)
        if len(cache.undrawn(made_from(records), seconds)) >= count:
            return
        fitted = MotionMap.fit(records, data.store(), cache, straightened, bent)
        write_undrawn(data.root, folder, fitted, hear, count, seconds, workers or cores_of_process(), show)
    log.info("%d undrawn speeches; the map to motion explains %.2f of that of the clips", count, fitted.share)


def find_latents(config: DictConfig, words: Sequence[str] = ()) -> Latents:
    """Latents that were made before; for one of several processes that run at once.

    Args:
        config: as for ``encode_data``.
        words: command line of the training, for the message.

    Raises:
        UserError: some are missing: says the command that makes them; or they are another autoencoder's.
    """
    from datamodules.latents import LatentCache, claim_cache, missing_clips
    from experiments.motion_basis import motion_basis

    encoder, data = _open(config)
    words = words or (
        f"experiment={config.name}",
        override("autoencoder", config.autoencoder),
        override("data.root", config.data.root),
    )
    command = f"make them before several processes train: ifmdm encode {shlex.join(words)}"
    try:
        records = _records(data)
    except UserError as error:
        raise UserError(f"{error}; clips and latents are missing, {command}") from error
    folder = _cache_folder(data.store(), encoder, data.latents)
    if left := missing_clips(folder, records):
        raise UserError(f"{folder}: latents of {len(left)} of {len(records)} clips are missing, {command}")
    claim_cache(folder, encoder.parts())
    if data.undrawn:
        LatentCache(folder).first_undrawn(data.undrawn, data.records("train"), data.undrawn_seconds)
    return Latents(folder, motion_basis(folder, records, data.store(), encoder.motion_dim, config.basis))


def _open(config: DictConfig) -> "tuple[ClipEncoder, TalkingHeadDataModule]":
    """Encoder and data of a config; without a size, the frames have the autoencoder's."""
    from experiments.motion_basis import require_kind
    from lightning_modules.checkpoints import find_weights

    require_kind(config.basis)
    encoder = ClipEncoder(str(find_weights(config.autoencoder, "autoencoder")), resolve(config.audio))
    if encoder.motion_dim != config.motion_dim:
        raise UserError(
            f"{config.autoencoder}: has {encoder.motion_dim} motion coefficients: set motion_dim={encoder.motion_dim}, "
            f"not {config.motion_dim}, or train another autoencoder"
        )
    config = config.copy()
    config.data.task = "frame_pairs"
    if OmegaConf.is_missing(config.data, "size"):
        config.data.size = encoder.size
    return encoder, instantiate(config.data)


def _records(data: "TalkingHeadDataModule") -> "list[ClipRecord]":
    return [record for split in ("train", "val") for record in data.records(split)]


def _cache_folder(store: "ClipStore", encoder: ClipEncoder, chosen: Path | None) -> Path:
    """Folder of the latents: the chosen one, or ``ROOT/latents/KEY``."""
    from datamodules.latents import cache_key

    return chosen or store.root / "latents" / cache_key(*encoder.parts())


def encode_clips(
    records: "Sequence[ClipRecord]",
    store: "ClipStore",
    encoder: ClipEncoder,
    folder: Path | None = None,
    shard: tuple[int, int] = (1, 1),
    workers: int | None = None,
    basis: str = "whitened",
) -> Latents | None:
    """Latents of clips and the motion basis of those in the split ``train``; what is there already is kept.

    Args:
        records: the same clips in all shards.
        store: where the clips' files are.
        encoder: what makes the latents.
        folder: of the cache; ``ROOT/latents/KEY`` if None.
        shard: which part of the clips, and of how many; shards may run at the same time.
        workers: processes, each with one thread on a CPU; None: one for each GPU, else as there are cores and work.
        basis: kind of the motion basis, ``whitened`` or ``raw``; the latents are the same.

    Returns:
        The latents; None if clips are left for other shards.

    Raises:
        UserError: a clip cannot be read, the training clips have too few frames for a basis, or a process died.
    """
    import torch

    from datamodules.latent_writing import build_latents
    from datamodules.latents import missing_clips
    from experiments.motion_basis import motion_basis, require_frames

    require_frames(records, store, encoder.motion_dim)
    folder = _cache_folder(store, encoder, folder)
    mine = records[shard[0] - 1 :: shard[1]]
    with folder_lock(folder) if shard[1] == 1 else contextlib.nullcontext():
        todo = sum(record.frames for record in missing_clips(folder, mine))
        devices = worker_devices(workers, todo, torch.cuda.device_count() if torch.cuda.is_available() else 0)
        with show_progress("encoding clips") as show:
            size = encoder.size
            build_latents(
                mine, store, folder, encoder, parts=encoder.parts(), size=size, devices=devices, progress=show
            )
    if left := missing_clips(folder, records):
        log.info("%s: %d of %d clips are left for the other shards", folder, len(left), len(records))
        return None
    return Latents(folder, motion_basis(folder, records, store, encoder.motion_dim, basis))


def worker_devices(workers: int | None, frames: int, gpus: int) -> list[str]:
    """Device of each worker process for so many frames on so many GPUs; empty if this process does the work."""
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise UserError(f"workers={workers}: is no number of processes, 1 or more")
    if not frames:
        return []
    if gpus:
        return [f"cuda:{number % gpus}" for number in range(workers or gpus)]
    count = workers or min(cores_of_process(), frames // FRAMES_PER_WORKER)
    return ["cpu"] * count if count > 1 else []
