"""Speed of ``ifmdm evaluate --videos``: clips a minute, and where the time goes; real clips are judged against themselves.

Run from the repository's root: ``python benchmarks/judging_videos.py --reference DIR [--clips 4] [--frames 125]
[--size 512] [--crop face] [--windows 8] [--random]``. With ``--random``, networks whose public weights are not there
have random ones, so that their time is told; the values are then worth nothing and are not shown.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from printing import markdown_table, one_line_errors
from random_networks import random_i3d, random_inception, random_syncnet

from datamodules.errors import UserError
from experiments import evaluate_videos as evaluation
from experiments import video_rows, video_summary
from experiments.run_identity import machine_facts
from experiments.video_judges import Judges, load_judges
from experiments.video_pairs import reference_clips
from metrics.protocol import protocol_settings


class Clock:
    """Seconds spent in functions, by the name of a stage; a stage within another counts for the inner one alone.

    Attributes:
        seconds: Stage -> seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""
        self.seconds.setdefault(stage, 0.0)

        def measured(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - begin
                self.seconds[stage] += spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        return measured

    def attach(self, stage: str, owner: Any, *names: str) -> None:
        """Time functions of a module or methods of an object, from now on."""
        for name in names:
            setattr(owner, name, self.timed(stage, getattr(owner, name)))


def attach_all(clock: Clock, judges: Judges) -> None:
    """Time every stage of an evaluation by these judges."""
    clock.attach("reading", video_rows, "load_pair")
    clock.attach("landmarks", judges, "watch")
    if judges.embedder is not None:
        clock.attach("face embedder", judges.embedder, "embed")
    clock.attach("codec", video_rows, "through_codec")
    if judges.sync is not None:
        clock.attach("SyncNet", judges.sync, "crops", "measure")
    for stage, pooled in (("Inception", judges.images), ("I3D", judges.windows)):
        if pooled is not None:
            clock.attach(stage, pooled, "update")
            clock.attach("aggregation", pooled, "compute")
    clock.attach("aggregation", video_summary, "aggregate", "closures")


def fill_in(judges: Judges, minimum: int) -> None:
    """Random networks where the public weights are not there."""
    judges.sync = judges.sync or random_syncnet(minimum)
    judges.images = judges.images or random_inception()
    judges.windows = judges.windows or random_i3d()


@dataclass(frozen=True)
class Measured:
    """An evaluation's speed.

    Attributes:
        clips: Number of clips that were judged.
        frames: Frames of each, at most.
        seconds: From the first file to the result.
        stages: Stage -> seconds.
        windows: Windows that I3D saw.
    """

    clips: int
    frames: int
    seconds: float
    stages: dict[str, float]
    windows: int


def measure(videos: Path, settings: dict[str, Any], judges: Judges) -> Measured:
    """Judge a folder of real clips against itself.

    Raises:
        UserError: Not one of them can be judged.
    """
    clock = Clock()
    kept = {
        (module, name): getattr(module, name)
        for module, name in (
            (video_rows, "load_pair"),
            (video_rows, "through_codec"),
            (video_summary, "aggregate"),
            (video_summary, "closures"),
        )
    }
    try:
        attach_all(clock, judges)
        begin = time.perf_counter()
        found = evaluation.evaluate_videos(
            videos, videos, "itself", settings, "talking-head-v1", judges=judges
        )
        seconds = time.perf_counter() - begin
    finally:
        for (module, name), function in kept.items():
            setattr(module, name, function)
    if not found["clips"]:
        raise UserError(f"{videos}: not one clip could be judged ({found['missing'][-1]['why']})")
    stages = {**clock.seconds, "all else": seconds - sum(clock.seconds.values())}
    windows = sum(map(judges.windows.fvd.count, judges.windows.fvd.sides)) if judges.windows else 0
    return Measured(len(found["clips"]), settings["max_frames"], seconds, stages, windows)


def report(measured: Measured, protocol_windows: int) -> str:
    """The table, and the whole protocol's FVD at this speed."""
    rows = [
        [stage, f"{spent:.1f}", f"{spent / measured.clips:.2f}", f"{spent / measured.seconds:.0%}"]
        for stage, spent in measured.stages.items()
    ]
    text = markdown_table(["stage", "s", "s a clip", "share"], rows)
    speed = 60 * measured.clips / measured.seconds
    text += f"\n\n{measured.clips} clips of at most {measured.frames} frames in {measured.seconds:.0f} s: "
    text += f"{speed:.2f} clips a minute"
    if measured.windows:
        window = measured.stages["I3D"] / measured.windows
        hours = 3 * protocol_windows * window / 3600  # real, codec, generated
        text += f"\nI3D: {window:.2f} s a window; the protocol's {protocol_windows} of each side take {hours:.1f} h"
    return text


def gather(reference: Path, clips: int, split: str, folder: Path) -> None:
    """Link the first real clips, and what lies beside them, into a folder.

    Raises:
        UserError: The folder holds no clips.
    """
    for name, pair in sorted(reference_clips(reference, split).items())[:clips]:
        (folder / f"{name}{pair.reference.suffix}").symlink_to(pair.reference.resolve())
        if pair.speech != pair.reference:
            (folder / f"{name}{pair.speech.suffix}").symlink_to(pair.speech.resolve())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True, help="prepared folder, or folder of videos")
    parser.add_argument("--split", default="test", help="of a prepared folder")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=125)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--crop", default="as given", choices=("as given", "face"))
    parser.add_argument("--windows", type=int, default=8, help="of each side for FVD")
    parser.add_argument(
        "--random", action="store_true", help="random weights where the public ones are absent"
    )
    args = parser.parse_args()
    settings = protocol_settings("talking-head-v1", size=args.size, max_frames=args.frames, crop=args.crop)
    protocol_windows = settings["fvd"]["windows"]
    settings["fvd"]["windows"] = args.windows
    judges = load_judges(settings, None, (settings["task"],))
    if args.random:
        fill_in(judges, settings["sync"]["minimum_frames"])
    with tempfile.TemporaryDirectory() as folder:
        gather(args.reference, args.clips, args.split, Path(folder))
        measured = measure(Path(folder), settings, judges)
    print(report(measured, protocol_windows))
    print(json.dumps(machine_facts()))


if __name__ == "__main__":
    one_line_errors(main)
