"""Speed of ``ifmdm evaluate --videos``: clips a minute, and where the time goes; real clips are judged against themselves.

Run from the repository's root: ``python benchmarks/judging_videos.py --reference DIR [--clips 4] [--frames 125]
[--size 512] [--crop face] [--windows 8] [--random]``. With ``--random``, networks whose public weights are not there
have random ones, so that their time is told; the values are then worth nothing and are not shown.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from printing import markdown_table, one_line_errors
from random_networks import RandomI3D

from datamodules.errors import UserError
from experiments.run_folder import machine_facts
from metrics.evaluation import clip_measures, run
from metrics.evaluation.clip_results import ROW_FAMILIES
from metrics.evaluation.clips import match_videos, reference_clips
from metrics.evaluation.judges import Judges, SyncNetJudge, load_judges
from metrics.evaluation.loading import RenderedClip, rendered_clips
from metrics.evaluation.picture_distances import window_starts
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.registry import measures_of
from metrics.judges.inception import I3D, FIDInception, fid_network
from metrics.judges.landmark_judge import LandmarkJudge
from metrics.judges.syncnet import SyncNet


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
    clock.attach("landmarks", judges, "detector")
    if judges.embed is not None:
        clock.attach("face embedder", judges, "embed")
    if judges.sync is not None:
        clock.attach("SyncNet", judges, "sync")
    for stage, network in (("Inception", judges.inception), ("I3D", judges.i3d)):
        if network is not None:
            clock.attach(stage, network, "forward")
    clock.attach("codec", clip_measures, "through_codec")
    clock.attach("aggregation", run, "aggregate")


def fill_in(judges: Judges) -> None:
    """Random networks where the public weights are not there."""
    judges.sync = judges.sync or SyncNetJudge(SyncNet().eval(), boxes=True)
    judges.inception = judges.inception or FIDInception(fid_network())
    judges.i3d = judges.i3d or I3D(RandomI3D())
    judges.hashes |= dict.fromkeys(("sync", "inception", "i3d"), "random")


def timed_clips(clock: Clock, clips: Iterator[RenderedClip]) -> Iterator[RenderedClip]:
    """The clips, the reading of each timed."""
    following = clock.timed("reading", lambda: next(clips, None))
    while (clip := following()) is not None:
        yield clip


@dataclass(frozen=True)
class Measured:
    """An evaluation's speed."""

    clips: int  # number of clips that were judged
    frames: int  # frames of each, at most
    seconds: float  # from the first file to the result
    stages: dict[str, float]  # stage -> seconds
    windows: int  # windows that I3D saw


def measure(videos: Path, protocol: Protocol, judges: Judges) -> Measured:
    """Judge a folder of real clips against itself.

    Raises:
        UserError: Not one of them can be judged.
    """
    clock, kept = Clock(), (clip_measures.through_codec, run.aggregate)
    try:
        attach_all(clock, judges)
        begin = time.perf_counter()
        data, _ = match_videos(videos, videos)
        clips = timed_clips(clock, rendered_clips(data, protocol.reading))
        found = run.evaluate(clips, data, protocol, judges, ROW_FAMILIES[protocol.task])
        seconds = time.perf_counter() - begin
    finally:
        clip_measures.through_codec, run.aggregate = kept
    if not found["clips"]:
        raise UserError(f"{videos}: not one clip could be judged ({found['missing'][-1]['why']})")
    stages = {**clock.seconds, "all else": seconds - sum(clock.seconds.values())}
    drawn = window_starts([clip.probed()[0] for clip in data.judged], protocol) if judges.i3d else []
    windows = 3 * sum(map(len, drawn))  # real, codec, generated
    return Measured(len(found["clips"]), protocol.reading.max_frames or 0, seconds, stages, windows)


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
    protocol = get_protocol("talking-head-v2", size=args.size, max_frames=args.frames, crop=args.crop)
    whole = protocol.fvd.windows
    protocol = replace(protocol, fvd=replace(protocol.fvd, windows=args.windows))
    slots = {slot for one in measures_of(protocol.task) for slot in one.judges}
    judges = load_judges(slots, protocol, LandmarkJudge())
    if args.random:
        fill_in(judges)
    with tempfile.TemporaryDirectory() as folder:
        gather(args.reference, args.clips, args.split, Path(folder))
        measured = measure(Path(folder), protocol, judges)
    print(report(measured, whole))
    print(json.dumps(machine_facts()))


if __name__ == "__main__":
    one_line_errors(main)
