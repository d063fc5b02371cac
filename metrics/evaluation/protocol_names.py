"""Names of protocols and tasks, and which frames are judged. Imports nothing heavy: a command line is checked at once."""

import hashlib
import json
from dataclasses import dataclass

from datamodules.errors import UserError

TALKING_HEAD, SYNTHETIC = "talking-head-v2", "synthetic-v2"
"""Names of the protocols: of real faces and of drawn heads."""
TALKING_HEAD_FREE = "talking-head-free-v1"
"""Of real faces without real videos: portraits and speech are all that is known."""
TASKS = ("generation", "reconstruction")
FREE = "free"
"""The task of that protocol, which the others don't have."""
PARTNER = "partner"
"""What an entry of what is missing lacks that is a file of which the other folder has no such stem."""


@dataclass(frozen=True)
class ReadingSettings:
    """Which frames are judged, and how large; part of the identity of the data, not of any measure's hash."""

    # shorter side in pixels; None: the real clip's own. Other sizes are resized, antialiased bicubic
    size: int | None = 512
    crop: str = "as given"  # as given, or face: both sides are cut to the face as this project frames it
    max_frames: int | None = None  # so many from the start; None: all
    # frames by which video and real clip, or sound and real clip, may differ; the rest is cut
    most_length_difference: int = 2
    shortest: int = 16  # frames that a clip must have


def check_protocol(name: str, task: str, crop: str) -> None:
    """Refuse what no protocol has.

    Raises:
        UserError: No such protocol, or a task or crop that it has not.
    """
    if name == TALKING_HEAD_FREE and task == FREE:
        return
    if name not in (TALKING_HEAD, SYNTHETIC):
        raise UserError(f"{name}: no such protocol; the names are {TALKING_HEAD}, {SYNTHETIC}")
    if task not in TASKS:
        raise UserError(f"task {task}: use {' or '.join(TASKS)}")
    if name == SYNTHETIC and crop != ReadingSettings.crop:
        raise UserError(f"protocol {name} judges whole frames, as they are drawn; leave out the crop")


def short_hash(content: object) -> str:
    """Hash of plain data, whatever the order of keys: 16 hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
