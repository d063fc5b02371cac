"""Which judge looks at the frames: the fitted regressor of a synthetic dataset, or MediaPipe's landmarks."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from datamodules.clips.manifest import MANIFEST_NAME, file_sha256, read_manifest
from datamodules.errors import UserError
from metrics.judges.frame_regressor import FrameRegressor, fit_frame_regressor, held_out_r2
from metrics.motion import MotionJudge as Judge
from metrics.protocol import JUDGE_FILE

SECONDS_BETWEEN_LINES = 3.0
JUDGE_FOLDER = "judge"
"""Of a dataset: the judge that protocols mean. One fitted within other limits has a folder that says so."""
FIT_FRAMES = 6000
FIT_STEPS = 600

Progress = Callable[[int, int, str], None]
log = logging.getLogger(__name__)


_said = -math.inf


def log_progress(done: int, total: int, text: str) -> None:
    """Progress as a plain log line, one every few seconds and the last."""
    global _said
    if done == total or time.monotonic() - _said >= SECONDS_BETWEEN_LINES:
        _said = time.monotonic()
        log.info("%s: %d of %d", text, done, total)


def load_judge(
    name: str,
    root: Path,
    device: str = "cpu",
    seconds: float | None = None,
    steps: int = FIT_STEPS,
    split: str = "test",
    progress: Progress | None = None,
    size: int | None = None,
) -> Judge:
    """Load a judge; the regressor is fitted once for each dataset and limits, and kept in the dataset's folder.

    Args:
        name: ``auto``: the regressor where clips are synthetic heads, else landmarks; ``regressor``, which any annotated
            clips can fit; ``landmarks``; or a folder that holds a fitted regressor.
        root: Dataset folder.
        device: Torch device of the fit.
        seconds: Time limit of the fit, which no two machines reach alike; None: by steps only, which repeats.
        steps: Steps of the fit at most.
        split: Split with other identities that the judge's own error is measured on.
        progress: Called with work done, work in all and a text.
        size: Edge of the frames that will be judged: its own error is measured on frames of this size; None: as stored.

    Raises:
        UserError: No such judge, or nothing to fit it on.
    """
    if name not in ("auto", "regressor", "landmarks"):
        return FrameRegressor.load(Path(name))
    records = read_manifest(root) if name != "landmarks" else []
    if name == "landmarks" or (name == "auto" and not any(record.drawn for record in records)):
        from metrics.judges.landmark_judge import LandmarkJudge

        return LandmarkJudge()
    folder = root / _folder_name(seconds, steps)
    fitted = {
        "manifest": file_sha256(root / MANIFEST_NAME),
        "limits": {"seconds": seconds, "steps": steps},
    }
    judge = FrameRegressor.load(folder) if (folder / JUDGE_FILE).is_file() else None
    if judge is None or any(judge.facts.get(key) != value for key, value in fitted.items()):
        training = [record for record in records if record.split == "train"]
        if not training:
            raise UserError(f"{root}: no clips of split 'train' to fit the judge on; give judge=landmarks")
        log.info("fitting the judge of motion on %d clips, once for this dataset", len(training))
        frames = min(FIT_FRAMES, 60 * len(training))
        judge = fit_frame_regressor(root, training, device, seconds, steps, frames=frames, progress=progress)
        judge.facts.update(fitted)
    checks = judge.facts.setdefault("held_out", {})
    checked = f"split {split}, {'size as stored' if size is None else f'{size} px'}"
    if checked not in checks:
        others = [record for record in records if record.split == split != "train"]
        checks[checked] = held_out_r2(judge, root, others, size=size) if others else {}
        try:
            judge.save(folder)
        except (OSError, UserError) as error:
            log.warning("what was found on the judge of motion can't be kept (%s)", error)
    judge.facts["held_out_r2"] = checks[checked]  # of the frames that are judged now
    return judge.to("cpu")


def _folder_name(seconds: float | None, steps: int) -> str:
    parts = [] if steps == FIT_STEPS else [f"{steps}steps"]
    parts += [] if seconds is None else [f"{seconds:g}s"]
    return "_".join([JUDGE_FOLDER, *parts])
