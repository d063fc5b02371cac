"""Which judge looks at the frames: the fitted regressor of a synthetic dataset, or MediaPipe's landmarks."""

import logging
from collections.abc import Callable
from pathlib import Path

from datamodules.errors import UserError
from datamodules.manifest import MANIFEST_NAME, file_sha256, read_manifest
from metrics.frame_regressor import FrameRegressor, fit_frame_regressor, held_out_r2
from metrics.motion import Judge

JUDGE_FOLDER = "judge"
FIT_FRAMES = 6000

Progress = Callable[[int, int, str], None]
log = logging.getLogger(__name__)


def log_progress(done: int, total: int, text: str) -> None:
    """Progress as a plain log line."""
    log.info("%s: %d of %d", text, done, total)


def load_judge(
    name: str,
    root: Path,
    device: str = "cpu",
    seconds: float | None = 90.0,
    steps: int = 1500,
    split: str = "test",
    progress: Progress | None = None,
    size: int | None = None,
) -> Judge:
    """Load a judge; the regressor is fitted once for each dataset and limits, and kept in its folder ``judge``.

    Args:
        name: ``regressor``, ``landmarks``, or a folder that holds a fitted regressor.
        root: Dataset folder.
        device: Torch device of the fit.
        seconds: Time limit of the fit; None to fit by steps only, which repeats exactly.
        steps: Steps of the fit at most.
        split: Split with other identities that the judge's own error is measured on.
        progress: Called with work done, work in all and a text.
        size: Edge of the frames that will be judged: its own error is measured on frames of this size; None: as stored.

    Raises:
        UserError: No such judge, or nothing to fit it on.
    """
    if name == "landmarks":
        from metrics.landmark_judge import LandmarkJudge

        return LandmarkJudge()
    if name != "regressor":
        return FrameRegressor.load(Path(name))
    folder = root / JUDGE_FOLDER
    records = read_manifest(root)
    fitted = {"manifest": file_sha256(root / MANIFEST_NAME), "limits": {"seconds": seconds, "steps": steps}}
    judge = FrameRegressor.load(folder) if (folder / "judge.json").is_file() else None
    if judge is None or any(judge.facts.get(key) != value for key, value in fitted.items()):
        training = [record for record in records if record.split == "train"]
        if not training:
            raise UserError(f"{root}: no clips of split 'train' to fit the judge on; give judge=landmarks")
        frames = min(FIT_FRAMES, 60 * len(training))
        judge = fit_frame_regressor(root, training, device, seconds, steps, frames=frames, progress=progress)
        judge.facts.update(fitted)
    checked = {"split": split, "size": size}
    if judge.facts.get("held_out") != checked:
        others = [record for record in records if record.split == split != "train"]
        judge.facts["held_out_r2"] = held_out_r2(judge, root, others, size=size) if others else {}
        judge.facts["held_out"] = checked
        judge.save(folder)
    return judge.to("cpu")
