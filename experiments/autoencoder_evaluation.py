"""Stage 1 judged alone: real motion of clips that it never saw, through the autoencoder, against the real frames."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.batches import POSE_NAMES
from datamodules.clips.annotations import read_annotations
from experiments.evaluate import with_run
from experiments.evaluation_setup import log_progress, open_data
from experiments.model_clips import read_truth, through_autoencoder, with_gallery
from experiments.results import machine_record
from experiments.yaw_distance import YawDistances
from lightning_modules.checkpoints import load_autoencoder, weights_hash
from lightning_modules.generation.devices import inference_device
from lightning_modules.generation.reenactment import Reenactor
from metrics.evaluation.clip_results import ROW_FAMILIES
from metrics.evaluation.judges import Judges, load_judges, load_motion_judge
from metrics.evaluation.loading import RenderedClip, rendered_clips
from metrics.evaluation.registry import measures_of
from metrics.evaluation.run import evaluate
from metrics.motion import MotionJudge

TASK = "reconstruction"


def evaluate_autoencoder(
    config: dict[str, Any],
    method: str,
    gallery: Path | None = None,
    load_judge: Callable[..., MotionJudge] = load_motion_judge,
    judges: Judges | None = None,
) -> dict[str, Any]:
    """The content of results.json of the autoencoder that a config of `ifmdm evaluate` names; ``method`` is its name.

    Where the clips' annotations know the head's rotation, ``by_yaw`` says how well frames are made by the yaw between source
    and frame, see `YawDistances`. Sheets and videos of the first ``gallery_clips`` go to the folder ``gallery``.

    Raises:
        UserError: No such autoencoder, data or judge.
    """
    started = time.perf_counter()
    device = inference_device()
    model = Reenactor(load_autoencoder(config["autoencoder"])[0]).to(device)
    size, turning = config["compared_at"] or model.size, YawDistances(model.device)
    chosen = {
        key: config[key] for key in ("judge", "judge_seconds", "split", "clips", "max_frames", "speakers")
    }
    data, names, looks, protocol = open_data(
        Path(config["data"]["root"]), size, load_judge, task=TASK, progress=log_progress, **chosen
    )
    slots = {slot for one in measures_of(TASK) for slot in one.judges}
    judges = judges or load_judges(slots, protocol, looks)

    def render(clip: RenderedClip) -> RenderedClip:
        begun = time.perf_counter()
        made = through_autoencoder(model, clip.real)
        facts = {"fps": len(clip) / (time.perf_counter() - begun)}
        if (yaw := _yaw(clip)) is not None:
            turning.add(made, clip.real, yaw, read_truth(clip).regions)
        return dataclasses.replace(clip, rows={"generated": (made,)}, facts=facts)

    clips = rendered_clips(data, protocol.reading, render)
    if gallery is not None:
        clips = with_gallery(clips, gallery, set(names[: config["gallery_clips"]]))
    results = evaluate(clips, data, protocol, judges, ROW_FAMILIES[TASK], log_progress)
    facts = {
        **machine_record(),
        "model": {
            "weights": weights_hash(model),
            "size": model.size,
            "compared_at": size,
            "name": Path(config["autoencoder"]).name,
        },
        "device": str(model.device),
        "judge": {"name": looks.name, **getattr(looks, "facts", {})},
        "split": config["split"],
        "speakers": config["speakers"],
        "seconds": round(time.perf_counter() - started, 1),
    }
    if by_yaw := turning.table():
        results["by_yaw"] = by_yaw
    return with_run(results, method, facts, judges)


def _yaw(clip: RenderedClip) -> np.ndarray | None:
    """Annotated yaw ``(T,)`` in degrees of a clip's frames; None where it isn't known of all of them."""
    path = clip.files.annotations
    rotation = read_annotations(path).arrays.get("rotation") if path else None
    if rotation is None or len(rotation) < len(clip) or not np.isfinite(rotation[: len(clip)]).all():
        return None
    return rotation[: len(clip), POSE_NAMES.index("yaw")]
