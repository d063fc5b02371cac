"""``ifmdm evaluate --check``: looks at folders of videos before they are judged, and judges nothing."""

import argparse
from dataclasses import replace

import numpy as np

from datamodules.errors import UserError
from datamodules.faces.finding import find_faces
from datamodules.media.pictures import read_image
from datamodules.media.sound_delay import sound_delay
from datamodules.media.video import VideoReader
from experiments.evaluation_flags import given_numbers
from metrics.evaluation.clips import CLIP_FAILURES, ClipFiles, match_videos, with_speakers
from metrics.evaluation.loading import load_clip, speech_of
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.protocol_names import FREE, SYNTHETIC, TALKING_HEAD_FREE
from metrics.evaluation.sources import load_with_portrait, match_sources

LOOKS = 10
"""Frames of a video in which a face is looked for; one may show none, as of all frames a tenth may."""
HEARD = 0.5 / 25
"""Seconds by which sound that begins late or early is told: half a frame."""


def check_folders(args: argparse.Namespace) -> int:
    """Print one line for each clip of the folders that the flags name: what it is like, and why it can't be judged.

    Raises:
        UserError: A clip can't be judged by every measure, or a file has no partner; says how many, after the lines.
    """
    if args.sources is not None:
        protocol = get_protocol(TALKING_HEAD_FREE, FREE, crop=args.crop, **given_numbers(args))
        data, alone = match_sources(args.videos, args.sources, args.speakers)
    else:
        protocol = get_protocol(args.protocol, args.task, crop=args.crop, **given_numbers(args))
        data, alone = match_videos(args.videos, args.reference, args.seeds, args.split)
        with_speakers(data, args.speakers)
    lines: list[tuple[str, list[str], list[str]]] = [(one["clip"], [one["why"]], []) for one in alone]
    lines += [(files.name, *look_at(files, protocol)) for files in data.judged]
    for name, problems, facts in lines:
        told = "can't be judged: " + "; ".join(problems) if problems else "fine"
        print(f"{name}: {told}" + (f" ({', '.join(facts)})" if facts else ""))
    if wrong := sum(bool(problems) for _, problems, _ in lines):
        raise UserError(
            f"{args.videos}: {wrong} of {len(lines)} can't be judged by every measure, as said above"
        )
    return 0


def look_at(files: ClipFiles, protocol: Protocol) -> tuple[list[str], list[str]]:
    """Why a clip can't be judged by every measure of a protocol; and what its videos are like."""
    free, reading = protocol.task == FREE, protocol.reading
    load = load_with_portrait if free else load_clip
    try:
        load(
            files, replace(reading, max_frames=reading.shortest)
        )  # decodes no more, and compares the lengths
        readers = [VideoReader(path) for path in files.takes]
        facts = [fact for reader in readers for fact in _facts(reader)]
        real = None if free else VideoReader(files.reference)
        # of real clips their own sound is judged
        lasts = min(len(one.at_rate()) for one in ([real] if real else readers))
        own = files.takes[0] if free and readers[0].info.has_audio else files.speech
        _, silence = speech_of(own, lasts, reading.most_length_difference)
        problems = [silence] if silence else []
        if protocol.name != SYNTHETIC:  # drawn heads are no faces to the model
            for reader in [*readers, *([real] if real else [])]:
                problems += _faceless(reader)
            if free and not find_faces(read_image(files.reference)):
                problems.append(f"{files.reference}: no face found")
    except CLIP_FAILURES as error:
        return [" ".join(str(error).split())], []
    return problems, facts


def _facts(reader: VideoReader) -> list[str]:
    info = reader.info
    told = [f"{info.frames} frames", f"{info.fps:.4g} fps", f"{info.width}x{info.height}"]
    if not info.has_audio:
        return [*told, "no sound of its own"]
    late = sound_delay(reader.path)
    return [*told, f"sound {1000 * late:+.0f} ms"] if abs(late) > HEARD else told


def _faceless(reader: VideoReader) -> list[str]:
    """Why measures of faces may have no value."""
    looks = np.unique(np.linspace(0, len(reader) - 1, LOOKS).round().astype(int))
    lost = sum(not find_faces(frame) for frame in reader.frames(looks))
    return [f"{reader.path}: no face found in {lost} of {len(looks)} frames looked at"] if lost > 1 else []
