"""Between stage 1 and stages 2, 3: the latent cache of a dataset and the motion basis fitted to it."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from datamodules.annotations import pose_of, read_annotations
from datamodules.batches import POSE_NAMES
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.latents import Encode, LatentCache, build_latents, cache_key
from datamodules.manifest import ClipRecord
from lightning_modules.audio_frontend import AudioFrontend
from lightning_modules.checkpoints import weights_hash
from lightning_modules.networks.motion_autoencoder import MotionAutoencoder
from lightning_modules.networks.motion_basis import (
    FRAMES_PER_DIMENSION,
    MotionBasis,
    basis_report,
    fit_motion_basis,
)

log = logging.getLogger(__name__)

BASIS_NAME = "basis-{key}.safetensors"
"""The basis in a cache folder; the key hashes ids and videos of the clips that it was fitted to."""
SCHEMA = 2
"""Raised when the meaning of cached values changes, so that old caches are left alone."""


def ensure_latents(
    autoencoder: MotionAutoencoder,
    frontend: AudioFrontend,
    records: Sequence[ClipRecord],
    root: Path,
    progress: bool = True,
) -> tuple[Path, MotionBasis]:
    """Latents of all clips and the motion basis of the training clips; what is there already is kept.

    Args:
        autoencoder: trained stage 1.
        frontend: what turns speech into the cached audio features.
        records: clips of the dataset, of any split; the basis sees the split ``train`` alone.
        root: dataset folder.
        progress: log a line now and then.

    Returns:
        Folder of the latent cache, and the basis.

    Raises:
        UserError: the training clips have too few frames for a basis.
    """
    parts = (weights_hash(autoencoder), frontend.identity(), autoencoder.size, SCHEMA)
    folder = Path(root) / "latents" / cache_key(*parts)
    step = max(1, len(records) // 5)

    def report(done: int, total: int) -> None:
        if progress and (done % step == 0 or done == total):
            log.info("latents: %d of %d clips", done, total)

    device = encoding_device()
    complete = folder.is_dir() and not any(LatentCache(folder).problem(record) for record in records)
    move = device.type != "cpu" and not complete
    if move:
        autoencoder.to(device)
        frontend.to(device)
    cache = build_latents(
        records, root, folder, encode_clip(autoencoder, frontend), report, parts=parts, size=autoencoder.size
    )
    if move:
        autoencoder.cpu()
        frontend.cpu()
    train = [r for r in records if r.split == "train"]
    key = cache_key(*sorted(f"{r.id} {r.sha256}" for r in train))
    basis_file = folder / BASIS_NAME.format(key=key)
    basis = MotionBasis(autoencoder.motion_dim)
    if basis_file.is_file():
        basis.load_state_dict(load_file(basis_file))
        return folder, basis
    frames, fewest = sum(r.frames for r in train), FRAMES_PER_DIMENSION * autoencoder.motion_dim
    if frames < fewest:
        raise UserError(
            f"{root}: {frames} frames in the split train, the motion basis needs {fewest} or more; add training clips"
        )
    motion, targets = motion_and_targets(cache, train, root)
    basis = fit_motion_basis(motion, targets)
    with whole_output(basis_file) as temporary:
        save_file(basis.state_dict(), temporary)
    held_out = [r for r in records if r.split == "val"]
    if held_out and targets:
        for name, shares in basis_report(basis, *motion_and_targets(cache, held_out, root)).items():
            told = ", ".join(f"{block} {share:.2f}" for block, share in shares.items())
            log.info("motion basis, R2 of %s: %s", name, told)
    return folder, basis


def encoding_device() -> torch.device:
    """A GPU where there is one, this process's own where several train together; else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def encode_clip(autoencoder: MotionAutoencoder, frontend: AudioFrontend, batch: int = 16) -> Encode:
    """Encode function of the latent cache: frames uint8 (T, S, S, 3) and waveform (640T,) -> latents on the CPU.

    It computes where the autoencoder is; the frontend has to be there too.
    """

    def encode(frames: np.ndarray, waveform: np.ndarray) -> dict[str, Tensor]:
        device = next(autoencoder.parameters()).device
        latents, motion = [], []
        for start in range(0, len(frames), batch):
            images = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch])).to(device)
            code = autoencoder.encode(images.permute(0, 3, 1, 2).float() / 127.5 - 1)
            latents.append(code.latent.cpu())
            motion.append(code.motion.cpu())
        audio = frontend(torch.from_numpy(np.ascontiguousarray(waveform))[None].to(device))[0].cpu()
        return {"motion": torch.cat(motion), "appearance": torch.cat(latents), "audio": audio}

    return encode


def motion_and_targets(
    cache: LatentCache, records: Sequence[ClipRecord], root: Path
) -> tuple[Tensor, dict[str, Tensor]]:
    """Motion ``(N, M)`` of all frames and what is annotated about them, name -> ``(N,)``.

    Targets are empty unless pose, lips and lids of every clip are annotated.
    """
    motion = torch.cat([cache.load(r.id)["motion"].float() for r in records])
    poses = [
        None if r.annotations is None else pose_of(read_annotations(root / r.annotations).arrays)
        for r in records
    ]
    known = [pose for pose in poses if pose is not None]
    if len(known) < len(poses):
        return motion, {}
    columns = torch.from_numpy(np.concatenate(known)).unbind(1)
    return motion, dict(zip(POSE_NAMES, columns, strict=True))
