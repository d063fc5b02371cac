"""What the judge of lip sync is worth on heads it never saw: offsets, distances, moved and foreign sound.

Run from the repository's root: ``python benchmarks/sync_expert.py --root DIR [--split test] [--expert DIR] [--real DIR]``.
The shipped judge learned from the split ``train`` of ``ifmdm prepare synthetic --clips 540 --identities 180 --seconds 3 5.5
--seed 100 --output DIR``. ``--real`` names a folder of videos of people, framed as the synthetic heads are: how far does the
judge carry over?
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from printing import markdown_table, one_line_errors

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.clips.manifest import read_manifest, without_twins
from datamodules.errors import UserError
from datamodules.media.audio import fit_length, load_audio
from datamodules.media.video import read_video
from metrics.evaluation.clips import reference_clips
from metrics.evaluation.loading import load_clip
from metrics.evaluation.protocol import get_protocol
from metrics.judges.syncnet import SHIPPED_EXPERT, SyncNet, clip_cepstra, load_expert
from metrics.sync import SyncResult, SyncSettings, clip_features, lip_sync, offsets_and_distances

SHIFTS = tuple(range(-8, 9))  # frames that the sound is moved by, positive: late
PIECE = 50  # shortest clip that is judged on synthetic heads, in frames


@dataclass(frozen=True)
class Clip:
    """A clip that lips and sound are compared in."""

    frames: torch.Tensor  # ``(T, 3, H, W)`` uint8
    waveform: torch.Tensor  # ``(640 T,)`` float in [-1, 1]
    voice: str  # who is heard


def read_clips(root: Path, split: str) -> list[Clip]:
    """Clips of a prepared folder's split.

    Raises:
        UserError: There are none with sound.
    """
    records = [r for r in without_twins(read_manifest(root)) if r.split == split and r.audio]
    if not records:
        raise UserError(f"{root}: split '{split}' has no clips with sound")
    clips = []
    for record in records:
        frames = read_video(root / record.video)
        waveform = fit_length(load_audio(root / str(record.audio)), len(frames))
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
        clips.append(Clip(pictures, torch.from_numpy(waveform), record.voice))
    return clips


def read_recordings(folder: Path) -> list[Clip]:
    """Videos of people with sound and a face, cut out as `datamodules.faces.framing` cuts; others are named and left out."""
    reading = get_protocol("talking-head-v2", size=128, crop="face").reading
    clips = []
    for name, pair in reference_clips(folder).items():
        try:
            read = load_clip(pair, reading)
        except (UserError, OSError, ValueError) as error:
            print(f"{name}: left out ({error})")
            continue
        if read.waveform is None or len(read) < SyncSettings().minimum_frames:
            print(f"{name}: left out ({read.silence or f'{len(read)} frames'})")
            continue
        frames = torch.from_numpy(read.real).permute(0, 3, 1, 2).contiguous()
        clips.append(Clip(frames, torch.from_numpy(read.waveform), pair.voice))
    return clips


def with_foreign_sound(clips: Sequence[Clip]) -> list[Clip]:
    """Each clip with the sound of the next one that has another voice."""
    swapped = []
    for place, clip in enumerate(clips):
        turn = [*clips[place + 1 :], *clips[:place]]
        other = next((one for one in turn if one.voice != clip.voice), None)
        if other is not None:
            sound = np.resize(other.waveform.numpy(), len(clip.waveform))
            swapped.append(Clip(clip.frames, torch.from_numpy(sound), other.voice))
    return swapped


def pieces(clips: Iterable[Clip], length: int = PIECE) -> list[Clip]:
    """The clips in pieces of so many frames; what is left at the end is dropped."""
    step = SAMPLES_PER_FRAME
    return [
        Clip(clip.frames[at : at + length], clip.waveform[at * step : (at + length) * step], clip.voice)
        for clip in clips
        for at in range(0, len(clip.frames) - length + 1, length)
    ]


@torch.no_grad()
def judge_shifts(network: SyncNet, clip: Clip, shifts: Sequence[int] = SHIFTS) -> list[SyncResult]:
    """Judge the middle of a clip with its own sound moved; what moves in at the ends is the clip's sound, no silence.

    Args:
        network: The judge.
        clip: At least 6 frames longer than twice the largest shift.
        shifts: Frames that the sound comes late.
    """
    margin = max(map(abs, shifts))
    inner = slice(margin, len(clip.frames) - margin)

    def sound(shift: int) -> torch.Tensor:
        start, stop = ((frame - shift) * SAMPLES_PER_FRAME for frame in (inner.start, inner.stop))
        return clip.waveform[start:stop]

    lip, _ = clip_features(network, clip.frames[inner], [sound(0)])
    sounds = [network.audio_features(clip_cepstra(sound(shift))[: len(lip)]) for shift in shifts]
    return [offsets_and_distances(lip, audio) for audio in sounds]


def table_row(name: str, found: Sequence[SyncResult], truth: int = 0) -> list[str]:
    """Name, clips, share within a frame of the truth, median offset, LSE-D and LSE-C."""
    offsets = np.array([one.offset for one in found])
    return [
        name,
        str(len(found)),
        f"{np.mean(np.abs(offsets - truth) <= 1):.1%}",
        f"{np.median(offsets):g}",
        f"{np.mean([one.distance for one in found]):.2f}",
        f"{np.mean([one.confidence for one in found]):.2f}",
    ]


def report(network: SyncNet, clips: Sequence[Clip]) -> str:
    """The table of clips: own sound, foreign sound, pieces, own sound moved."""
    rows = [
        table_row(name, [lip_sync(network, c.frames, [c.waveform])[0] for c in some])
        for name, some in (
            ("own sound", clips),
            ("another voice's sound", with_foreign_sound(clips)),
            (f"own sound, pieces of {PIECE} frames", pieces(clips)),
        )
    ]
    moved = [judge_shifts(network, clip) for clip in clips]
    for place, shift in enumerate(SHIFTS):
        rows.append(table_row(f"own sound {shift:+d}", [found[place] for found in moved], shift))
    return markdown_table(["", "clips", "within a frame", "median offset", "LSE-D", "LSE-C"], rows)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="prepared folder of synthetic heads")
    parser.add_argument("--split", default="test")
    parser.add_argument("--expert", type=Path, default=SHIPPED_EXPERT, help="folder of a trained judge")
    parser.add_argument("--real", type=Path, help="folder of videos of people")
    args = parser.parse_args()
    network = load_expert(args.expert)
    print(report(network, read_clips(args.root, args.split)))
    if args.real:
        print(f"\n{args.real}:\n")
        print(report(network, read_recordings(args.real)))


if __name__ == "__main__":
    one_line_errors(main)
