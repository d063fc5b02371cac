"""Has the motion of the synthetic heads real scale? Real and synthetic clips, measured by the same judge.

    python benchmarks/synthetic_motion.py --data PREPARED --real FOLDER [FOLDER ...] [--out FILE.json]

Every video is framed alike (one square a clip, 256 px), brought to 25 fps and measured frame by frame by MediaPipe's face
landmarks. Jitter holds the noise of the landmarks themselves: compare it between the columns, not with zero. A synthetic
clip that can't be measured counts as outside the real range; two samples of one population would lie inside it in 90 %.
Of clips that differ in the draw of the motion alone every one counts; measure data without draws for independent ones.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from judged_clips import JudgedClip, UnfitClipError, judge_clip, measures_of
from printing import markdown_table, one_line_errors

from datamodules.clips.manifest import read_manifest
from datamodules.errors import UserError
from experiments.results import write_json

SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
SPREAD = (5, 50, 95)

Judged = JudgedClip | str  # the curves of a clip, or why it has none


def judge_file(path: Path, seconds: float) -> Judged:
    """Curves of the start of a video, or why it is left out."""
    try:
        return judge_clip(path, seconds)
    except (UnfitClipError, UserError) as reason:
        return str(reason)


def judge_files(paths: list[Path], seconds: float, workers: int) -> dict[str, Judged]:
    """File name -> curves, in the order given."""
    judged = {}
    with ProcessPoolExecutor(max(1, workers)) as pool:
        for path, clip in zip(paths, pool.map(partial(judge_file, seconds=seconds), paths), strict=True):
            told = clip if isinstance(clip, str) else "measured"
            print(f"{path.name}: {told}", file=sys.stderr, flush=True)
            judged[path.name] = clip
    return judged


def measures_of_all(judged: dict[str, Judged]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Measures of the clips that have curves, and the reasons of those that have none."""
    measures = {name: measures_of(clip) for name, clip in judged.items() if isinstance(clip, JudgedClip)}
    return measures, {name: reason for name, reason in judged.items() if isinstance(reason, str)}


def compare(
    real: list[dict[str, float]], synthetic: list[dict[str, float]], lost: int = 0
) -> dict[str, dict[str, float]]:
    """Measure -> percentiles of both sides and the share of synthetic clips, ``lost`` ones too, in the real 5-95 % range."""
    result = {}
    for name in real[0]:
        true, made = (np.array([clip[name] for clip in clips], dtype=float) for clips in (real, synthetic))
        low, _, high = bounds = np.nanpercentile(true, SPREAD)
        row = {f"real {p} %": float(value) for p, value in zip(SPREAD, bounds, strict=True)}
        row |= {f"synthetic {p} %": float(np.nanpercentile(made, p)) for p in SPREAD}
        row["share inside"] = float(((made >= low) & (made <= high)).sum() / (len(made) + lost))
        row["real std"], row["synthetic std"] = float(np.nanstd(true)), float(np.nanstd(made))
        result[name] = row
    return result


def table(comparison: dict[str, dict[str, float]]) -> str:
    """The comparison as markdown."""
    columns = [f"{side} {p} %" for side in ("real", "synthetic") for p in SPREAD]
    rows = [
        [name, *(f"{row[column]:.3g}" for column in columns), f"{row['share inside']:.0%}"]
        for name, row in comparison.items()
    ]
    return markdown_table(["measure", *columns, "inside real 5-95 %"], rows)


def main() -> None:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="prepared synthetic dataset")
    parser.add_argument("--real", type=Path, nargs="+", required=True, help="folders of real videos")
    parser.add_argument("--clips", type=int, help="most synthetic clips to measure, evenly over the data")
    parser.add_argument("--seconds", type=float, default=8.0, help="longest part of a clip to measure")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()

    videos = sorted(p for folder in args.real for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    real, unfit = measures_of_all(judge_files(videos, args.seconds, args.workers))
    print(f"{len(real)} real clips; left out: " + "; ".join(f"{name} ({why})" for name, why in unfit.items()))
    records = read_manifest(args.data)
    if args.clips and args.clips < len(records):
        records = [records[i] for i in np.linspace(0, len(records) - 1, args.clips).round().astype(int)]
    made = [args.data / record.video for record in records]
    synthetic, lost = measures_of_all(judge_files(made, args.seconds, args.workers))
    print(
        f"{len(synthetic)} synthetic clips; left out: " + "; ".join(f"{n} ({why})" for n, why in lost.items())
    )
    if not real or not synthetic:
        raise UserError("no clip could be measured on one side; look at the reasons above")
    comparison = compare(list(real.values()), list(synthetic.values()), len(lost))
    print("\n" + table(comparison))
    if args.out:
        record = {"comparison": comparison, "real": real, "synthetic": synthetic, "left out": unfit | lost}
        write_json(args.out, record)


if __name__ == "__main__":
    one_line_errors(main)
