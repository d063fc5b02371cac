"""``ifmdm sweep``: how head motion, lips and sharpness of rendered frames answer to the motion intensity."""

import argparse
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import require_output_folder
from experiments.config import require_model
from experiments.results import plain, require_judged, write_json, write_whole

INTENSITIES = (0.0, 0.5, 1.0, 2.0)
SWEPT = (
    "head_motion", "lip_corr_zero", "lip_corr", "lip_lag", "mouth_motion", "blink_rate", "jitter", "sharpness",
    "sharpness_mouth", "sharpness_eyes",
)  # fmt: skip
"""Measures by their names in the registry; those of landmarks only where landmarks are seen."""

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm sweep``."""
    parser.description = (
        "Measure quality over a setting: sweep=motion_intensity and overrides of configs/sweep.yaml."
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="sweep=motion_intensity model=DIR data.root=DIR ..."
    )


def run(args: argparse.Namespace) -> int:
    """Sweep as the command line says, see `sweep_main`."""
    return sweep_main(args.overrides)


def sweep_intensity(
    model: Any,
    root: Path,
    intensities: Sequence[float] = INTENSITIES,
    judge: Any = None,
    clips: int | None = None,
    seeds: Sequence[int] = (0,),
    split: str = "test",
    options: Any = None,
    max_frames: int | None = None,
    output: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure rendered frames at several motion intensities; sources, speech and seeds are the same in all.

    ``intensities`` are values of ``GenerationOptions.intensity``; ``sweep.json``, its plot, and sheet and video of the
    first clip go to ``output``; all else as in `experiments.evaluation.evaluate_model`.

    Returns:
        One row an intensity: ``{"intensity", MEASURE: {"value", "low", "high", "n"}}``; head_motion and
        jitter in degrees, sharpness (of whole frames) as a share of the real clip's.

    Raises:
        UserError: No manifest, no clip in the split, an intensity that the model can't follow, or not one clip
            could be judged; nothing is written then.
    """
    from experiments import evaluation
    from experiments.model_clips import swept_rows
    from experiments.report.figures import sweep_picture
    from lightning_modules.generation.talking_head import GenerationOptions
    from metrics.evaluation.aggregate import aggregate
    from metrics.evaluation.clips import CLIP_FAILURES
    from metrics.evaluation.evaluation import protocol_record, with_data
    from metrics.evaluation.judges import load_motion_judge, motion_judges
    from metrics.evaluation.loading import rendered_clips
    from metrics.evaluation.loop import ROW_PLANS, RowPlan, judge_clip

    options, started, root = options or GenerationOptions(), time.perf_counter(), Path(root)
    evaluation.check_options(model, options, tuple(seeds), intensities)
    data, chosen = evaluation.choose_data(root, split, clips)
    judge = judge or load_motion_judge("regressor", root, progress=progress, size=model.size)
    protocol = evaluation.model_protocol(chosen, model.size, judge, max_frames)
    judges = with_data(motion_judges(judge), data)
    variants = [dataclasses.replace(options, intensity=value) for value in intensities]
    rendered = rendered_clips(data, protocol.reading, swept_rows(model, tuple(seeds), variants))
    plan = RowPlan((), tuple(str(place) for place in range(len(intensities))))
    found: list[Any] = []
    missing = []
    for number, clip in enumerate(rendered):
        name = clip.files.name
        try:
            if clip.failure:
                raise ValueError(clip.failure)
            judged, _ = judge_clip(clip, judges, protocol, plan)
        except CLIP_FAILURES as error:
            log.warning("clip %s is left out: %s", name, error)
            missing.append({"clip": name, "what": "all", "why": str(error)})
        else:
            if output is not None and not found:
                _write_pictures(output, clip, intensities)
            found.append(judged)
        if progress:
            progress(number + 1, len(data.judged), f"sweeping {name}")
    require_judged(len(found), missing, hint=evaluation.PREPARE_AGAIN)
    metrics = aggregate(found, protocol, judges)
    rows = []
    for intensity, row in zip(intensities, plan.free, strict=True):
        known = {name: metrics[f"{name}_{row}"].as_dict() for name in SWEPT if f"{name}_{row}" in metrics}
        rows.append(plain({"intensity": float(intensity), **known}))
    if output is not None:
        sweep = {
            "protocol": protocol_record(protocol, data, judges, ROW_PLANS["model"]),
            "run": evaluation.run_record(model, options, judge, seeds, time.perf_counter() - started),
            "rows": rows,
            "missing": missing,
        }
        write_json(output / "sweep.json", sweep)
        write_whole(output / "sweep.png", sweep_picture(rows))
    return rows


def _write_pictures(folder: Path, clip: Any, intensities: Sequence[float]) -> None:
    from experiments.pictures import contact_sheet, side_by_side, spread

    name, rows = clip.files.name, clip.rows.values()
    shown = {f"intensity {value:g}": takes[0] for value, takes in zip(intensities, rows, strict=True)}
    sheet = {label: spread(frames, 9) for label, frames in shown.items()}
    contact_sheet(sheet, folder / f"sweep_sheet_{name}.png")
    side_by_side(shown, folder / f"sweep_{name}.mp4", clip.waveform)


def sweep_main(overrides: Sequence[str], **parts: Any) -> int:
    """Compose, sweep and write sweep.json, its plot, a contact sheet and a video.

    ``parts`` say how model and judge are loaded, see `load_parts`.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged.
    """
    require_model(overrides)
    from experiments.evaluation import compose_evaluation, load_parts

    config = compose_evaluation(overrides, "sweep")
    output = require_output_folder(config["output"])
    values = config["sweep"]["values"]
    if not isinstance(values, list) or not values:
        raise UserError(f"sweep.values={values}: give a list of intensities, e.g. [0,0.5,1,2]")
    for row in sweep_intensity(intensities=values, output=output, **load_parts(config, values, **parts)):
        known = [row[name]["value"] for name in ("head_motion", "lip_corr_zero")]
        told = ["unknown" if value is None else f"{value:.2f}" for value in known]
        log.info("intensity %g: head motion %s degrees, lip correlation %s", row["intensity"], *told)
    log.info("written: %s", output)
    return 0
