"""Does a judge that never saw the synthetic heads agree with their truth? MediaPipe's face landmarks against annotations.

    python benchmarks/synthetic_landmarks.py --data PREPARED [--clips N] [--frames M] [--workers W] [--out FILE.json]

Each frame is measured by itself. A judge has its own idea of a straight head, so rotation is compared after each clip's
constant offset is taken out.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from printing import markdown_table, one_line_errors

from datamodules.clips.annotations import read_annotations
from datamodules.clips.manifest import ClipRecord, read_manifest
from datamodules.media.clip_reading import ClipReader
from experiments.results import write_json
from metrics.judges.landmark_judge import LandmarkJudge
from metrics.motion import MotionCurves, correlation, measure_motion

AXES = ("yaw", "pitch", "roll")
MOVING = 1.0  # degrees of true standard deviation above which a clip says something about an axis by itself


GOALS = {
    "share of frames with a face": (">=", 0.99),
    "lip opening: correlation, median over clips": (">=", 0.9),
    **{f"{axis}: correlation, clip offsets taken out": (">=", 0.95) for axis in AXES},
    **{f"{axis}: RMS error in degrees, clip offsets taken out": ("<=", 1.5) for axis in AXES},
}
"""What some of the figures should be, by their names."""


def judge_record(record: ClipRecord, root: Path, frames: int) -> tuple[MotionCurves, MotionCurves]:
    """What the judge sees in the first frames of a clip, and the truth."""
    reader = ClipReader(root / record.video)
    count = min(len(reader), frames)
    arrays = read_annotations(root / str(record.annotations)).arrays
    truth = MotionCurves(*(arrays[name][:count] for name in ("rotation", "lip_opening", "blink")))
    return measure_motion(reader.get(range(count)), LandmarkJudge()), truth


def compare(clips: list[tuple[MotionCurves, MotionCurves]]) -> dict[str, float]:
    """Agreement of (seen, true) curves of clips, by name."""
    found = np.concatenate([np.isfinite(seen.lip_opening) for seen, _ in clips]).mean()
    result = {"share of frames with a face": float(found)}
    for name, curve in (("lip opening", "lip_opening"), ("blink", "blink")):
        agreement = np.array(
            [correlation(getattr(seen, curve), getattr(true, curve)) for seen, true in clips]
        )
        result[f"{name}: correlation, median over clips"] = _percentile(agreement, 50)
        result[f"{name}: correlation, 5th percentile"] = _percentile(agreement, 5)
    for axis, name in enumerate(AXES):
        result |= {f"{name}: {key}": figure for key, figure in _compare_axis(clips, axis).items()}
    return result


def _compare_axis(clips: list[tuple[MotionCurves, MotionCurves]], axis: int) -> dict[str, float]:
    """Agreement of one axis of the rotation over the frames with a face."""
    pairs = []
    for seen, true in clips:
        known = np.isfinite(seen.rotation[:, axis])
        if known.any():
            pairs.append(np.stack([seen.rotation[known, axis], true.rotation[known, axis]]))
    means = [pair.mean(axis=1, keepdims=True) for pair in pairs]
    offsets = [float(seen - true) for [seen], [true] in means]
    centred = [pair - mean for pair, mean in zip(pairs, means, strict=True)]
    seen, true = np.concatenate(centred, axis=1, dtype=np.float64)
    moving = np.array([correlation(*pair) for pair in pairs if pair[1].std() > MOVING])
    return {
        "correlation, clip offsets taken out": correlation(seen, true),
        f"correlation, median over {len(moving)} clips of std > {MOVING:g} deg": _percentile(moving, 50),
        "RMS error in degrees, clip offsets taken out": float(np.sqrt(np.mean((seen - true) ** 2))),
        "slope of seen on true": float((seen * true).sum() / (true**2).sum()),
        "mean offset in degrees, seen - true": float(np.mean(offsets)),
        "std of the clips' offsets in degrees": float(np.std(offsets)),
    }


def _percentile(values: np.ndarray, percent: float) -> float:
    """Percentile of the finite values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(np.percentile(known, percent)) if len(known) else float("nan")


def main() -> None:
    """Measure the clips and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="prepared synthetic dataset")
    parser.add_argument("--clips", type=int, help="most clips to measure, evenly over the dataset")
    parser.add_argument("--frames", type=int, default=100, help="frames of each clip, from its start")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()

    records = [record for record in read_manifest(args.data) if record.annotations]
    if args.clips and args.clips < len(records):
        records = [records[i] for i in np.linspace(0, len(records) - 1, args.clips).round().astype(int)]
    job = partial(judge_record, root=args.data, frames=args.frames)
    clips = []
    with ProcessPoolExecutor(max(1, args.workers)) as pool:
        for record, pair in zip(records, pool.map(job, records), strict=True):
            clips.append(pair)
            print(f"{record.id}: measured", file=sys.stderr, flush=True)
    figures = compare(clips)
    print(f"{len(clips)} clips, {sum(len(true) for _, true in clips)} frames\n")
    rows = [[name, f"{value:.3f}", *map(str, GOALS.get(name, ("", "")))] for name, value in figures.items()]
    print(markdown_table(["measure", "value", "", "goal"], rows))
    if args.out:
        write_json(args.out, figures)


if __name__ == "__main__":
    one_line_errors(main)
