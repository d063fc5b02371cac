"""Latent cache: motion, appearance and audio features of every clip, computed once by a trained autoencoder.

A cache is one folder, ``ROOT/latents/KEY``: ``cache.json`` (what the key was made of) and shards, safetensors files of many
clips each, all float16: ``ID/motion`` (T, M) raw coefficients, ``ID/appearance`` (T, A) and ``ID/audio`` (2T, D); the file's
metadata says which video each clip's latents were made from. The encode function is passed in: this package knows no models.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from datamodules.clips.clip_store import ClipStore, as_store
from datamodules.clips.frames import ClipFrames
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.media.audio import fit_length, load_audio

Encode = Callable[[np.ndarray, np.ndarray], dict[str, Tensor]]
"""Frames uint8 (T, H, W, 3), waveform float32 (640T,) -> motion (T, M), appearance (T, A), audio (2T, D)."""

INFO_NAME = "cache.json"
STORED_TYPE = torch.float16
STEPS_PER_FRAME = {"motion": 1, "appearance": 1, "audio": 2}
SHARD_FRAMES = 16384
"""Frames of a shard, about: 28 MB with log-mel sound. What an interrupted run loses at most."""
MAX_OPEN = 32
"""Shards that one worker process keeps mapped."""


class _Place(NamedTuple):
    """Where a clip's latents are.

    Attributes:
        shard: the file.
        sha256: of the video that they were made from.
        frames: T.
    """

    shard: Path
    sha256: str
    frames: int


def cache_key(*parts: str | int | float) -> str:
    """Short hash of everything the latents depend on (weights hash, audio encoder, size, ...).

    Args:
        parts: Plain values; their order and type count.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class LatentCache:
    """Read access to a latent cache; picklable, every worker maps the shards itself.

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
        self._places = {clip: place for path in self.shards() for clip, place in _contents(path)}
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_places": self._places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open = OrderedDict()

    def shards(self) -> list[Path]:
        """Files of the cache, whole or damaged, the newest last: what is in two counts as in the newer one."""
        files = self.folder.glob("shard-*.safetensors")
        return sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def load(self, clip: str) -> dict[str, Tensor]:
        """Latents of one clip, memory-mapped: only what is then used is read.

        Args:
            clip: Clip id.

        Returns:
            ``motion`` (T, M), ``appearance`` (T, A), ``audio`` (2T, D), float16. Not to be written to.

        Raises:
            UserError: The clip is missing or its file damaged.
        """
        if clip not in self._places:
            raise UserError(f"{self.folder}: no latents of {clip}; build the latent cache again")
        path = self._places[clip].shard
        try:
            shard = self._mapped(path)
            return {name: shard.get_tensor(f"{clip}/{name}") for name in STEPS_PER_FRAME}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: damaged latent file ({error}); build the latent cache again") from error

    def _mapped(self, path: Path) -> Any:
        """An open shard, from the few that are kept."""
        if path in self._open:
            self._open.move_to_end(path)
        else:
            self._open[path] = safe_open(path, framework="pt").__enter__()
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)[1].__exit__(None, None, None)
        return self._open[path]

    def problem(self, record: ClipRecord) -> str | None:
        """Why the clip's latents cannot be used as they are, or None."""
        place = self._places.get(record.id)
        if place is None:
            return "are missing"
        if place.sha256 != record.sha256:
            return "were made from another video"
        if place.frames != record.frames:
            return f"have {place.frames} frames, the clip {record.frames}"
        return None

    def check(self, records: Sequence[ClipRecord]) -> None:
        """Make sure that usable latents of all clips are there.

        Raises:
            UserError: One line about the first clip without.
        """
        for record in records:
            if problem := self.problem(record):
                raise UserError(
                    f"{self.folder}: latents of {record.id} {problem}; build the latent cache again"
                )


def _contents(path: Path) -> Iterator[tuple[str, _Place]]:
    """What a shard holds, by its header; nothing if it is damaged."""
    try:
        with safe_open(path, framework="pt") as shard:
            clips = json.loads((shard.metadata() or {}).get("clips", "{}"))
            names = set(shard.keys())
    except (SafetensorError, OSError, ValueError):
        return
    for clip, (sha256, frames) in clips.items():
        if all(f"{clip}/{name}" in names for name in STEPS_PER_FRAME):
            yield clip, _Place(path, sha256, frames)


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
    for name, steps in STEPS_PER_FRAME.items():
        value = outputs[name].detach().cpu()
        if value.ndim != 2 or len(value) != steps * len(frames):
            raise ValueError(f"clip {clip}: {name} of shape {tuple(value.shape)} for {len(frames)} frames")
        latents[name] = value.to(STORED_TYPE).contiguous()
        if not torch.isfinite(latents[name]).all():
            raise ValueError(
                f"clip {clip}: {name} is not finite as {STORED_TYPE}; is the autoencoder trained?"
            )
    return latents


def build_latents(
    records: Sequence[ClipRecord],
    clips: Path | ClipStore,
    folder: Path,
    encode: Encode,
    progress: Callable[[int, int], None] | None = None,
    *,
    parts: Sequence[str | int | float] = (),
    size: int | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> LatentCache:
    """Compute the latents of all clips that have none yet.

    Each shard appears whole or not at all, so an interrupted run continues where it was; clips that are damaged or belong to
    another version of the video are made again. Several processes share the work: each takes every ``ranks``-th clip, and
    whoever opens the cache after all have returned sees all of it.

    Args:
        records: Clips of one dataset, the same in all processes.
        clips: The dataset folder, or where else the clips' files are.
        folder: Cache folder, by convention ``ROOT/latents/KEY`` with the key of ``cache_key(*parts)``.
        encode: Frames uint8 (T, size, size, 3) and waveform float32 (640T,) in [-1, 1] -> ``motion`` (T, M),
            ``appearance`` (T, A), ``audio`` (2T, D). Runs without gradients. Clips without sound get silence.
        progress: Called with (clips done, clips in all) of this process after each clip.
        parts: What the cache key was made of, noted in ``cache.json``.
        size: Edge of the frames passed to ``encode``; the stored size of each clip if None.
        rank: Of this process.
        ranks: Number of processes.

    Returns:
        The cache, complete if there is no other process.

    Raises:
        UserError: A clip cannot be read, or the folder belongs to other ``parts``.
        ValueError: ``encode`` returned other shapes, or values that are not finite.
    """
    store, folder = as_store(clips), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_info(folder, parts)
    cache = LatentCache(folder)
    mine = records[rank::ranks]
    todo = [record for record in mine if cache.problem(record) is not None]
    done = len(mine) - len(todo)
    for group in _groups(todo):
        tensors: dict[str, Tensor] = {}
        for record in group:
            clip = ClipFrames(store, size or record.size).get(record, np.arange(record.frames))
            silent = np.zeros(0, dtype=np.float32)
            waveform = silent if record.audio is None else load_audio(store.audio(record))
            latents = _encode_clip(clip, fit_length(waveform, record.frames), encode, record.id)
            tensors |= {f"{record.id}/{name}": value for name, value in latents.items()}
            done += 1
            if progress is not None:
                progress(done, len(mine))
        contents = {record.id: [record.sha256, record.frames] for record in group}
        name = cache_key(*(f"{clip} {sha256}" for clip, (sha256, _) in contents.items()))
        with whole_output(folder / f"shard-{name}.safetensors") as temporary:
            save_file(tensors, temporary, {"clips": json.dumps(contents)})
    return LatentCache(folder)


def _groups(records: Sequence[ClipRecord]) -> Iterator[list[ClipRecord]]:
    """Runs of clips with about ``SHARD_FRAMES`` frames."""
    group: list[ClipRecord] = []
    for record in records:
        group.append(record)
        if sum(one.frames for one in group) >= SHARD_FRAMES:
            yield group
            group = []
    if group:
        yield group
