"""Sound of prepared clips, by frame."""

from collections import OrderedDict
from pathlib import Path

import numpy as np

from datamodules.audio import fit_length, load_audio
from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.manifest import ClipRecord

MAX_HELD = 64
"""Clips whose sound one worker process keeps: 40 MB at 10 s each."""


class ClipSounds:
    """Random access to the sound of a dataset's clips; the last ``MAX_HELD`` stay in memory.

    Args:
        root: Dataset folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._held: OrderedDict[str, np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict[str, Path]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def get(self, record: ClipRecord, start: int, frames: int) -> np.ndarray:
        """Sound of ``frames`` frames from frame ``start``: ``(640 frames,)`` float32 in [-1, 1] at 16 kHz.

        Raises:
            UserError: The file is missing or damaged.
        """
        if record.id in self._held:
            self._held.move_to_end(record.id)
        else:
            waveform = load_audio(self.root / (record.audio or record.video))
            self._held[record.id] = fit_length(waveform, record.frames)
            if len(self._held) > MAX_HELD:
                self._held.popitem(last=False)
        begin = start * SAMPLES_PER_FRAME
        return self._held[record.id][begin : begin + frames * SAMPLES_PER_FRAME].copy()
