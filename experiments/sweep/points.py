"""Renders and measures the points of a sweep, clip by clip and point by point, through the code of every evaluation."""

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.clips.manifest import file_sha256
from datamodules.media.pictures import to_float
from datamodules.media.video import write_video
from experiments.evaluation_setup import EvaluatedModel
from experiments.model_clips import SweptSource, prepare_swept
from experiments.results import plain
from experiments.sweep.features import Features, PooledFeatures
from experiments.sweep.plan import Point, SweepPlan
from experiments.sweep.records import FORMAT, Record
from lightning_modules.checkpoints import weights_hash
from metrics.evaluation.aggregate import aggregate
from metrics.evaluation.clip_measures import measure_clip
from metrics.evaluation.clip_results import RowFamilies
from metrics.evaluation.clips import CLIP_FAILURES, ClipFiles, Missing, entry
from metrics.evaluation.intervals import Interval
from metrics.evaluation.judges import Judges
from metrics.evaluation.loading import RenderedClip, load_clip
from metrics.evaluation.protocol_names import short_hash
from metrics.evaluation.run import protocol_record
from metrics.evaluation.speech import LipRegressors, add_closures, add_correlations, read_speech
from metrics.following import judged_windows, realised_std

MEASURED = (
    "head_motion", "mouth_motion", "blink_rate", "csim", "lip_corr_zero", "lip_corr", "lip_lag", "av_corr_zero", "av_corr",
    "av_lag", "lse_c", "lse_d", "av_offset", "lip_closure", "jitter", "sharpness", "sharpness_mouth", "sharpness_eyes",
    "flicker", "fid", "kid", "fd_efficientnet_lite0", "fvd", "lpips", "motion_frechet", "head_velocity_distance",
    "edge_step_ratio",
)  # fmt: skip
"""Measures of a row by their names in the registry, as far as their judges are there. LPIPS against the real frames rewards
stillness in free generation, and so do all measures that compare frame with frame: it is there to be seen, not ranked by."""
KEPT = "clips"
"""Folder of the records in that of a sweep; pages leave a folder of that name alone."""
LOOKS = 16
"""Frames of so many clips are remembered with what judges found in them: of the real clip's, above all."""

log = logging.getLogger(__name__)


class Remembered:
    """A judge that is asked once of the same frames: real ones are held against every point."""

    def __init__(self, judge: Callable[..., Any]) -> None:
        self.judge = judge
        self.found: dict[str, Any] = {}

    def __call__(self, *given: Any) -> Any:
        """What the judge says; arguments are told apart by the arrays among them."""
        digest = hashlib.blake2b()
        for one in given:
            for array in one if isinstance(one, list) else [one]:
                if isinstance(array, np.ndarray | torch.Tensor):
                    digest.update(np.ascontiguousarray(array).tobytes())
        key = digest.hexdigest()
        found = self.found.pop(key) if key in self.found else self.judge(*given)
        self.found[key] = found  # the latest last
        while len(self.found) > LOOKS:
            self.found.pop(next(iter(self.found)))
        return found


class PointMeter:
    """Measures points and keeps what it found of each clip.

    Attributes:
        record: By what is judged, see `protocol_record`.
        missing: Clips that failed at some point, and are left out of all.

    Args:
        evaluated: Model, clips and settings.
        judges: Look at the frames.
        folder: Of the sweep; records lie in it by the hash of all that they hang on.
        following: Whether requested statistics are held against realised ones.
    """

    def __init__(
        self, evaluated: EvaluatedModel, judges: Judges, folder: Path, following: bool = False
    ) -> None:
        self.evaluated, self.folder, self.following = evaluated, folder / KEPT, following
        data, protocol = evaluated.data, evaluated.protocol
        remembering: dict[str, Any] = {
            name: None if (judge := getattr(judges, name)) is None else Remembered(judge)
            for name in ("detector", "embed", "sync")
        }
        self.judges = dataclasses.replace(judges, **remembering)
        self.families = RowFamilies(("generated",) if judges.lpips is not None else (), ("generated",))
        self.record = protocol_record(protocol, data, self.judges, self.families)
        self.pools = PooledFeatures(judges, protocol, data.judged)
        self.features = Remembered(self.pools.of)
        self.missing: list[Missing] = []
        weights = weights_hash(evaluated.model)
        self.base: dict[str, Any] = {
            "format": FORMAT,
            "weights": weights,
            "seeds": evaluated.seeds,
            "protocol": self.record,
        }

    @cached_property
    def regressors(self) -> LipRegressors:
        """From speech to lips, of all real clips."""
        data, protocol = self.evaluated.data, self.evaluated.protocol
        log.info("reading the speech and lips of %d real clips", len(data.all))
        return LipRegressors.of(read_speech(data.all, protocol, self.judges), protocol, self.judges)

    def key(self, point: Point) -> str:
        """Hash of all that the records of a point hang on: 16 hexadecimal digits."""
        usual = dataclasses.asdict(type(point.options)())  # an option that is added later changes no key
        asked = dataclasses.asdict(point.options).items()
        options = plain({name: one for name, one in asked if one != usual[name] and name != "seed"})
        # Ways that are one for this model may be asked for by several names.
        if "scaling" in usual:
            options["scaling"] = point.options.scaling_of(self.evaluated.model.diffusion.by_construction)
        options = {name: float(one) if type(one) is int else one for name, one in options.items()}
        path = Path(str(options.get("statistics", "")))
        if path.is_file():
            options["statistics"] = file_sha256(path)
        return short_hash({**self.base, "options": options, "following": self.following})

    def path(self, point: Point, files: ClipFiles, kind: str = "npz") -> Path:
        """File of a clip at a point: its record, or as ``mp4`` what it looks like, if it is shown."""
        return self.folder / self.key(point) / f"{files.name}.{kind}"

    def measure(self, points: Sequence[Point], shown: str = "") -> list[ClipFiles]:
        """Render and measure all points of all clips that are not known yet; returns the clips that have every point.

        The first take of the clip ``shown`` is kept as a video, too.
        """
        unique = list({self.key(point): point for point in points}.values())
        evaluated, whole = self.evaluated, []
        total, done = len(unique) * len(evaluated.data.judged), 0
        for place, files in enumerate(evaluated.data.judged):
            todo = [point for point in unique if not self._known(point, files, shown)]
            done += len(unique) - len(todo)
            try:
                swept = self._prepare(place) if todo else None
                for point in todo:
                    self._measure(swept, point, files.name == shown)
                    done += 1
                    if evaluated.progress:
                        evaluated.progress(done, total, f"sweeping {files.name}, {point.label}")
            except CLIP_FAILURES as error:
                log.warning("clip %s is left out: %s", files.name, error)
                self.missing.append(entry(files.name, "all", str(error)))
            else:
                whole.append(files)
        return whole

    def _known(self, point: Point, files: ClipFiles, shown: str) -> bool:
        seen = files.name != shown or self.path(point, files, "mp4").is_file()
        return seen and Record.load(self.path(point, files)) is not None

    def _prepare(self, place: int) -> SweptSource:
        data = self.evaluated.data
        clip = load_clip(data.judged[place], self.evaluated.protocol.reading)
        clip = dataclasses.replace(clip, foreign=data.foreign_speech(place, len(clip)))
        return prepare_swept(self.evaluated.model, clip)

    def _measure(self, swept: Any, point: Point, shown: bool) -> None:
        """Render one point of one clip and keep what is measured."""
        protocol, seeds = self.evaluated.protocol, self.evaluated.seeds
        takes = swept.takes(point.options, seeds, self.following)
        rows = {"generated": tuple(take.frames for take in takes)}
        clip: RenderedClip = dataclasses.replace(swept.clip, rows=rows)
        result, seen = measure_clip(clip, self.judges, protocol, self.families)
        add_correlations(result, self.regressors, protocol, self.judges)
        add_closures([result], self.evaluated.data.all, protocol, self.judges)
        wanted = {*MEASURED, *(f"{name}_real" for name in MEASURED)}
        kept = ("real", "generated")
        record = Record(
            {name: value for name, value in result.values.items() if name in wanted},
            {row: result.lips[row] for row in kept},
            {row: result.distributions[row] for row in kept},
            [self.features(take.frames, clip.files.name) for row in kept for take in seen[row]],
            self._stds(swept, takes) if self.following else {},
        )
        if shown:
            path = self.path(point, clip.files, "mp4")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, takes[0].frames, crf=12)
        record.save(self.path(point, clip.files))

    def _stds(self, swept: SweptSource, takes: Sequence[Any]) -> dict[str, np.ndarray]:
        """Requested std of the windows, and that of the sampled motion and of the rendered frames; nothing if none was."""
        if any(take.requested is None for take in takes):
            return {}
        basis, model = self.evaluated.model.basis, self.evaluated.model
        rest = basis.encode(swept.source.motion)[0].cpu().numpy()

        def stds(motions: list[torch.Tensor]) -> np.ndarray:
            return np.stack([realised_std(basis.encode(motion).cpu().numpy(), rest) for motion in motions])

        sampled = stds([take.motion for take in takes])
        rendered = stds([model.motion_of(to_float(take.frames)) for take in takes])
        judged = list(judged_windows(len(takes[0].frames)))
        requested = np.stack([take.requested.cpu().numpy()[judged] for take in takes])
        return {"requested": requested, "sampled": sampled, "rendered": rendered}

    def records(self, point: Point, clips: Sequence[ClipFiles], features: bool = False) -> list[Record]:
        """What is kept of clips at a point."""
        found = [Record.load(self.path(point, files), features) for files in clips]
        assert all(found), "a record was lost while the sweep was running"
        return [record for record in found if record is not None]

    def metrics(self, point: Point, clips: Sequence[ClipFiles]) -> dict[str, Interval]:
        """Measures of a point over clips with their intervals, and of real clips (``NAME_real``)."""
        pooled = bool(self.pools.networks.networks)
        records = self.records(point, clips, features=pooled)
        results = [record.result(files) for record, files in zip(records, clips, strict=True)]
        metrics = aggregate(results, self.evaluated.protocol, self.judges)
        if pooled:
            sides: list[list[Features]] = [record.features for record in records]
            people = [files.identity for files in clips]
            takes = 1 + len(self.evaluated.seeds)
            sides = [one or [{}] * takes for one in sides]  # too short for any window
            real, made = [one[0] for one in sides], [one[1:] for one in sides]
            metrics |= self.pools.distances(people, real, made)
        return metrics


def meter(
    evaluated: EvaluatedModel, plan: SweepPlan, folder: Path, judges: Judges | None = None
) -> PointMeter:
    """The meter of a plan: with these judges, or with those that the protocol names, as far as they are there."""
    from metrics.evaluation.judges import load_judges, motion_judges
    from metrics.evaluation.registry import SLOTS
    from metrics.evaluation.run import with_data

    if judges is None:
        only_motion = plan.judges == "motion"
        judges = (
            motion_judges(evaluated.judge)
            if only_motion
            else load_judges(SLOTS - {"listener"}, evaluated.protocol, evaluated.judge)
        )
    return PointMeter(evaluated, with_data(judges, evaluated.data), folder, plan.following)
