"""How clips are read: what of them is judged. Imports nothing heavy, so that a command line is checked at once."""

import hashlib
import json
from dataclasses import dataclass

TALKING_HEAD, SYNTHETIC = "talking-head-v2", "synthetic-v2"
"""Names of the protocols: of real faces and of drawn heads."""
TASKS = ("generation", "reconstruction")


@dataclass(frozen=True)
class ReadingSettings:
    """Which frames are judged, and how large; part of the identity of the data, not of any measure's hash.

    Attributes:
        size: Shorter side in pixels; None: the real clip's own. Other sizes are resized, antialiased bicubic.
        crop: ``as given``, or ``face``: both sides are cut to the face as this project frames it.
        max_frames: So many from the start; None: all.
        most_length_difference: Frames by which video and real clip, or sound and real clip, may differ; the rest is cut.
        shortest: Frames that a clip must have.
        codec_crf: Rate of the H.264 that the row ``codec`` and the still clip of the jitter's floor went through.
    """

    size: int | None = 512
    crop: str = "as given"
    max_frames: int | None = None
    most_length_difference: int = 2
    shortest: int = 16
    codec_crf: int = 18


def short_hash(content: object) -> str:
    """Hash of plain data, whatever the order of keys: 16 hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
