"""Sound of prepared clips, by frame."""

import numpy as np

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.clips.clip_store import ClipStore
from datamodules.clips.lru_cache import LRUCache
from datamodules.clips.manifest import ClipRecord
from datamodules.media.audio import fit_length, load_audio

MAX_HELD = 64
"""Clips whose sound one worker process keeps: 40 MB at 10 s each."""


class ClipSounds:
    """Random access to the sound of a store's clips; the last ``most`` stay in memory."""

    def __init__(self, clips: ClipStore, most: int = MAX_HELD) -> None:
        self.clips = clips
        self._held: LRUCache[np.ndarray] = LRUCache(most)

    def get(self, record: ClipRecord, start: int, frames: int) -> np.ndarray:
        """Sound of ``frames`` frames from frame ``start``: ``(640 frames,)`` float32 in [-1, 1] at 16 kHz."""
        held = self._held.get(
            record.id, lambda: fit_length(load_audio(self.clips.audio(record)), record.frames)
        )
        begin = start * SAMPLES_PER_FRAME
        return held[begin : begin + frames * SAMPLES_PER_FRAME].copy()
