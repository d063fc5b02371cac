"""Lip closure of all clips of an evaluation, where the times of their phones are known."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.errors import UserError
from datamodules.phones import Phone, read_phones
from experiments.video_pairs import Missing, entry
from experiments.video_sync import Heard
from metrics.lip_closure import is_bilabial, lip_closure

ROWS = ("real", "codec", "autoencoder", "generated", "still")
NO_PHONES = (
    "no phone times; align the speech (Montreal Forced Aligner) and put STEM.TextGrid beside the real video"
)
log = logging.getLogger(__name__)


def _next_phones(clips: Sequence[Heard], phones: Sequence[list[Phone] | None], place: int) -> list[Phone]:
    """Phones of the next clip with another voice whose phones are known; empty without one."""
    for other in [*range(place + 1, len(clips)), *range(place)]:
        found = phones[other]
        if found and clips[other].voice != clips[place].voice:
            return found
    return []


def closure_values(
    clips: Sequence[Heard], phones: Sequence[list[Phone] | None], place: int
) -> dict[str, float]:
    """``lip_closure`` of each row of the clip at ``place``; ``shuffled``: the method's lips at another clip's phones.

    Args:
        clips: Lips of all clips.
        phones: Of each clip, None where unknown.
        place: Which clip.
    """
    own, lips = phones[place], clips[place].lips
    spoken = [(row, row, own or []) for row in ROWS]
    spoken.append(("shuffled", "generated", _next_phones(clips, phones, place) if own else []))
    values = {}
    for row, source, sounds in spoken:
        rates = np.array([lip_closure(take, lips["real"][0], sounds) for take in lips.get(source, [])])
        if np.isfinite(rates).any():
            suffix = "" if row == "generated" else f"_{row}"
            values[f"lip_closure{suffix}"] = float(np.nanmean(rates))
    return values


def known_phones(name: str, source: Path | None) -> tuple[list[Phone] | None, str]:
    """Phones of the clip of that name, None where unknown; and why nothing can be judged by them, empty if it can."""
    if source is None:
        return None, NO_PHONES
    try:
        found = read_phones(source)
    except UserError as error:
        log.warning("lip_closure of %s: not judged (%s)", name, error)
        return None, str(error)
    if not found:
        return found, NO_PHONES
    spoken = any(is_bilabial(phone.label) for phone in found)
    return found, "" if spoken else "no p, b or m is spoken"


def closures(
    clips: Sequence[Heard], sources: Sequence[Path | None]
) -> tuple[list[dict[str, float]], list[Missing]]:
    """Lip closure of every clip, and where there is none and why.

    Args:
        clips: Lips of all clips.
        sources: Files that hold their phones, None where there is none.
    """
    known = [known_phones(clip.name, source) for clip, source in zip(clips, sources, strict=True)]
    phones, whys = [found for found, _ in known], [why for _, why in known]
    values = [closure_values(clips, phones, place) for place in range(len(clips))]
    if clips and all(why == NO_PHONES for why in whys):
        return values, [entry("*", "lip_closure", NO_PHONES)]
    absent = []
    for clip, rates, why in zip(clips, values, whys, strict=True):
        if "lip_closure" not in rates:
            absent.append(
                entry(
                    clip.name,
                    "lip_closure",
                    why or "its lips hardly move, or show no p, b or m in these frames",
                )
            )
    return values, absent
