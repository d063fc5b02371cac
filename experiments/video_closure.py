"""Lip closure of all clips of an evaluation, where the times of their phones are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.clips.phones import Phone, read_phones
from datamodules.errors import UserError
from experiments.video_pairs import Missing, VideoPair, entry
from experiments.video_sync import Heard, over_takes
from metrics.lip_closure import is_bilabial, lip_closure

NO_PHONES = (
    "no phone times; align the speech (Montreal Forced Aligner) and put STEM.TextGrid beside the real video"
)
NOTHING_CLOSES = "its lips hardly move, or show no p, b or m in these frames"
NO_FACE = "the video or the real clip shows no face"


class SpokenPhones:
    """What is spoken in clips, judged or not, as far as it is known.

    Args:
        clips: In their order.
    """

    def __init__(self, clips: Sequence[VideoPair]) -> None:
        self._clips = clips
        self._places = {clip.name: place for place, clip in enumerate(clips)}
        self._known = [known_phones(clip.phones) for clip in clips]

    def of(self, name: str) -> tuple[list[Phone], str]:
        """Phones of a clip, and why nothing can be judged by them, empty if it can."""
        return self._known[self._places[name]]

    def after(self, name: str) -> list[Phone]:
        """Phones of the next clip with another voice whose phones are known; empty without one."""
        place = self._places[name]
        for other in [*range(place + 1, len(self._clips)), *range(place)]:
            phones, _ = self._known[other]
            if phones and self._clips[other].voice != self._clips[place].voice:
                return phones
        return []


def known_phones(source: Path | None) -> tuple[list[Phone], str]:
    """Phones of a file, and why nothing can be judged by them, empty if it can."""
    if source is None:
        return [], NO_PHONES
    try:
        found = read_phones(source)
    except UserError as error:
        return [], str(error)
    if not found:
        return [], NO_PHONES
    spoken = any(is_bilabial(phone.label) for phone in found)
    return found, "" if spoken else "no p, b or m is spoken"


def closure_values(clip: Heard, own: Sequence[Phone], foreign: Sequence[Phone]) -> dict[str, float]:
    """``lip_closure`` of each row of a clip; ``shuffled``: the method's lips at the phones of another clip.

    Args:
        clip: Its lips.
        own: What is spoken in it; empty: unknown, and no row is judged.
        foreign: What is spoken in the other; a floor for those clips alone that have a value of their own.
    """
    spoken = [*((row, row, own) for row in clip.lips), ("shuffled", "generated", foreign)]
    values: dict[str, float] = {}
    for row, source, phones in spoken:
        takes = [lip_closure(take, clip.lips["real"][0], phones) for take in clip.lips.get(source, [])]
        rate = over_takes("lip_closure", takes) if takes else np.nan
        if np.isfinite(rate) and (row != "shuffled" or "lip_closure" in values):
            values["lip_closure" if row == "generated" else f"lip_closure_{row}"] = rate
    return values


def _seen(clip: Heard) -> bool:
    """Whether lips are known of the real clip and of every take."""
    return all(np.isfinite(take).any() for row in ("real", "generated") for take in clip.lips[row])


def closures(
    judged: Sequence[Heard], clips: Sequence[VideoPair]
) -> tuple[list[dict[str, float]], list[Missing]]:
    """Lip closure of every judged clip, and where there is none and why.

    Args:
        judged: Lips of the judged clips.
        clips: All clips in their order: whose phones the floor is taken from must not depend on which could be judged.
    """
    spoken = SpokenPhones(clips)
    values = [closure_values(one, spoken.of(one.name)[0], spoken.after(one.name)) for one in judged]
    whys = [spoken.of(one.name)[1] for one in judged]
    if judged and all(why == NO_PHONES for why in whys):
        return values, [entry("*", "lip_closure", NO_PHONES)]
    absent = [
        entry(one.name, "lip_closure", why or (NOTHING_CLOSES if _seen(one) else NO_FACE))
        for one, rates, why in zip(judged, values, whys, strict=True)
        if "lip_closure" not in rates
    ]
    return values, absent
