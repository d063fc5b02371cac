"""Latent cache: motion, appearance and audio features of every clip, computed once by a trained autoencoder.

A cache is one folder, ``ROOT/latents/KEY``: ``cache.json`` (what the key was made of) and for each clip
``ID.safetensors`` with ``motion`` (T, M) float32 raw coefficients, ``appearance`` (T, A) float16 and
``audio`` (2T, D) float16. The encode function is passed in: this package knows no models.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from datamodules.audio import fit_length, load_audio
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.frames import ClipFrames
from datamodules.manifest import ClipRecord

Encode = Callable[[np.ndarray, np.ndarray], dict[str, Tensor]]
"""Frames uint8 (T, H, W, 3), waveform float32 (640T,) -> motion (T, M), appearance (T, A), audio (2T, D)."""

INFO_NAME = "cache.json"
STORED_TYPES = {"motion": torch.float32, "appearance": torch.float16, "audio": torch.float16}
STEPS_PER_FRAME = {"motion": 1, "appearance": 1, "audio": 2}


def cache_key(*parts: str | int | float) -> str:
    """Short hash of everything the latents depend on (weights hash, audio encoder, size, ...).

    Args:
        parts: Plain values; their order and type count.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class LatentCache:
    """Read access to a latent cache.

    Args:
        folder: Cache folder.

    Raises:
        UserError: The folder does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder}: no latent cache there; build it from a trained autoencoder first"
            )

    def path(self, clip: str) -> Path:
        """File of a clip's latents."""
        return self.folder / f"{clip}.safetensors"

    def load(self, clip: str) -> dict[str, Tensor]:
        """Latents of one clip, memory-mapped: only what is then used is read.

        Args:
            clip: Clip id.

        Returns:
            ``motion`` (T, M) float32, ``appearance`` (T, A) float16, ``audio`` (2T, D) float16. Not to be
            written to.

        Raises:
            UserError: The clip's file is missing or damaged.
        """
        path = self.path(clip)
        if not path.is_file():
            raise UserError(f"{path}: no latents of this clip; build the latent cache again")
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in STORED_TYPES}
        except SafetensorError as error:
            raise UserError(f"{path}: damaged latent file ({error}); build the latent cache again") from error

    def problem(self, record: ClipRecord) -> str | None:
        """Why the clip's latents cannot be used as they are, or None; reads the file's header only."""
        path = self.path(record.id)
        if not path.is_file():
            return "missing"
        try:
            with safe_open(path, framework="pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in STORED_TYPES}
                made_from = (file.metadata() or {}).get("sha256", "")
        except SafetensorError:
            return "damaged"
        if made_from != record.sha256:
            return "made from another video"
        for name, shape in shapes.items():
            if len(shape) != 2 or shape[0] != STEPS_PER_FRAME[name] * record.frames:
                return f"{name} of shape {tuple(shape)} does not fit {record.frames} frames"
        return None

    def check(self, records: Sequence[ClipRecord]) -> None:
        """Make sure that usable latents of all clips are there.

        Raises:
            UserError: One line about the first clip without.
        """
        for record in records:
            if problem := self.problem(record):
                raise UserError(f"{self.path(record.id)}: latents {problem}; build the latent cache again")


def _write_info(folder: Path, parts: Sequence[str | int | float]) -> None:
    """Note what the key was made of; a folder made for other parts is refused."""
    path = folder / INFO_NAME
    info = {"key": cache_key(*parts), "parts": list(parts)}
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: damaged; delete the folder and build the latent cache again") from error
        if known != info:
            raise UserError(f"{path}: this latent cache was made with other settings; choose another folder")
        return
    with whole_output(path) as temporary:
        temporary.write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def _encode_clip(frames: np.ndarray, waveform: np.ndarray, encode: Encode, clip: str) -> dict[str, Tensor]:
    with torch.inference_mode():
        outputs = encode(frames, waveform)
    latents = {}
    for name, dtype in STORED_TYPES.items():
        value = outputs[name].detach().cpu()
        if value.ndim != 2 or len(value) != STEPS_PER_FRAME[name] * len(frames):
            raise ValueError(f"clip {clip}: {name} of shape {tuple(value.shape)} for {len(frames)} frames")
        latents[name] = value.to(dtype).contiguous()
        if not torch.isfinite(latents[name]).all():
            raise ValueError(f"clip {clip}: {name} is not finite as {dtype}; is the autoencoder trained?")
    return latents


def build_latents(
    records: Sequence[ClipRecord],
    root: Path,
    folder: Path,
    encode: Encode,
    progress: Callable[[int, int], None] | None = None,
    *,
    parts: Sequence[str | int | float] = (),
    size: int | None = None,
) -> LatentCache:
    """Compute the latents of all clips that have none yet.

    Each clip's file appears whole or not at all, so an interrupted run continues where it was; files that
    are damaged or belong to another version of the video are made again.

    Args:
        records: Clips of one dataset folder.
        root: The dataset folder.
        folder: Cache folder, by convention ``root / "latents" / cache_key(*parts)``.
        encode: Frames uint8 (T, size, size, 3) and waveform float32 (640T,) in [-1, 1] -> ``motion`` (T, M),
            ``appearance`` (T, A), ``audio`` (2T, D). Runs without gradients. Clips without sound get silence.
        progress: Called with (clips done, clips in all) after each clip.
        parts: What the cache key was made of, noted in ``cache.json``.
        size: Edge of the frames passed to ``encode``; the stored size of each clip if None.

    Returns:
        The complete cache.

    Raises:
        UserError: A clip cannot be read, or the folder belongs to other ``parts``.
        ValueError: ``encode`` returned other shapes, or values that are not finite.
    """
    root, folder = Path(root), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_info(folder, parts)
    cache = LatentCache(folder)
    for done, record in enumerate(records, start=1):
        if cache.problem(record) is not None:
            clip = ClipFrames(root, size or record.size).get(record, np.arange(record.frames))
            silent = np.zeros(0, dtype=np.float32)
            waveform = silent if record.audio is None else load_audio(root / record.audio)
            latents = _encode_clip(clip, fit_length(waveform, record.frames), encode, record.id)
            with whole_output(cache.path(record.id)) as temporary:
                save_file(latents, temporary, {"sha256": record.sha256})
        if progress is not None:
            progress(done, len(records))
    return cache
