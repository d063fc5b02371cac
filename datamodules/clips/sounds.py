"""Sound of prepared clips, by frame."""

from collections import OrderedDict
from typing import Any

import numpy as np

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.clips.clip_store import ClipStore
from datamodules.clips.manifest import ClipRecord
from datamodules.media.audio import fit_length, load_audio

MAX_HELD = 64
"""Clips whose sound one worker process keeps: 40 MB at 10 s each."""


class ClipSounds:
    """Random access to the sound of a store's clips; the last ``most`` stay in memory."""

    def __init__(self, clips: ClipStore, most: int = MAX_HELD) -> None:
        self.clips, self.most = clips, most
        self._held: OrderedDict[str, np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"clips": self.clips, "most": self.most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def get(self, record: ClipRecord, start: int, frames: int) -> np.ndarray:
        """Sound of ``frames`` frames from frame ``start``: ``(640 frames,)`` float32 in [-1, 1] at 16 kHz.

        Raises:
            UserError: The file is missing or damaged.
        """
        if record.id in self._held:
            self._held.move_to_end(record.id)
        else:
            waveform = load_audio(self.clips.audio(record))
            self._held[record.id] = fit_length(waveform, record.frames)
            if len(self._held) > self.most:
                self._held.popitem(last=False)
        begin = start * SAMPLES_PER_FRAME
        return self._held[record.id][begin : begin + frames * SAMPLES_PER_FRAME].copy()
