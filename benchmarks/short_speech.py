"""How long a clip must be for ``av_corr``: real lips with their own speech and with foreign speech, by length of the piece.

Run from the repository's root: ``python benchmarks/short_speech.py --reference DIR [--drawn] [--clips 40]``; ``--drawn``
for a prepared folder of synthetic heads, whose own judge of motion looks at them.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from printing import markdown_table, one_line_errors

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.errors import UserError
from metrics.av_correlation import SpokenClip, measure_sync
from metrics.evaluation.clips import reference_clips
from metrics.evaluation.judges import load_motion_judge, motion_judges
from metrics.evaluation.protocol import get_protocol
from metrics.evaluation.protocol_names import SYNTHETIC, TALKING_HEAD
from metrics.evaluation.speech import LipRegressors, read_speech

LENGTHS = (30, 40, 50, 75, 100, 125)


def speaking_clips(reference: Path, drawn: bool, most: int) -> dict[str, SpokenClip]:
    """Lips and speech of real clips whose face is seen, by name."""
    protocol = get_protocol(SYNTHETIC) if drawn else get_protocol(TALKING_HEAD, size=256, crop="face")
    judges = motion_judges(load_motion_judge("regressor" if drawn else "landmarks", reference))
    clips = [clip for _, clip in sorted(reference_clips(reference).items())][:most]
    spoken = read_speech(clips, protocol, judges)
    return {name: one for name, one in spoken.items() if np.isfinite(one.lip_opening).any()}


def compare(spoken: Mapping[str, SpokenClip], length: int) -> np.ndarray:
    """``(N, 4)``: ``av_corr`` with own and foreign speech, ``av_corr_zero`` likewise, of all pieces of so many frames."""
    regressors = LipRegressors(spoken, get_protocol(TALKING_HEAD).regression)
    found, clips = [], list(spoken.values())
    for place, clip in enumerate(clips):
        regressor = regressors.without(clip.identity, clip.voice)
        turn = [*clips[place + 1 :], *clips[:place]]
        others = [other.waveform for other in turn if other.voice != clip.voice]
        if regressor is None or not others:
            continue
        foreign = np.resize(others[0], length * SAMPLES_PER_FRAME)
        for start in range(0, len(clip.lip_opening) - length + 1, length):
            lips = clip.lip_opening[start : start + length]
            own = clip.waveform[start * SAMPLES_PER_FRAME : (start + length) * SAMPLES_PER_FRAME]
            with_own, with_foreign = (measure_sync(lips, speech, regressor, []) for speech in (own, foreign))
            found.append(
                [one[name] for name in ("av_corr", "av_corr_zero") for one in (with_own, with_foreign)]
            )
    values = np.array(found).reshape(-1, 4)
    return values[np.isfinite(values).all(axis=1)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--drawn", action="store_true")
    parser.add_argument("--clips", type=int, default=40)
    args = parser.parse_args()
    clips = speaking_clips(args.reference, args.drawn, args.clips)
    rows = []
    for length in LENGTHS:
        values = compare(clips, length)
        if not len(values):
            continue
        means = [f"{mean:.2f}" for mean in values.mean(axis=0)]
        ahead = f"{100 * np.mean(values[:, 0] > values[:, 1]):.0f} %"
        rows.append([str(length), str(len(values)), *means[:2], ahead, *means[2:]])
    if not rows:
        raise UserError(
            f"{args.reference}: no clip of {LENGTHS[0]} frames with sound, a face and another voice"
        )
    head = ["frames", "pieces", "av_corr own", "foreign", "own ahead", "av_corr_zero own", "foreign"]
    print(markdown_table(head, rows))


if __name__ == "__main__":
    one_line_errors(main)
