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
    """Sweep as the command line says.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged.
    """
    return sweep_main(args.overrides)


def measure_clip(clip: Any, judges: Any, protocol: Any) -> list[dict[str, float]]:
    """The swept measures of each row of a rendered clip, as far as their judges are there; of several takes the mean."""
    from metrics.evaluation.contexts import FrameContext, SpeechContext
    from metrics.evaluation.loop import floor_view
    from metrics.evaluation.registry import MEASURES, values_of
    from metrics.evaluation.speech import mean_over_takes

    whole, floor = judges.look(clip.real, protocol), floor_view(clip.real, judges, protocol)
    true = whole.seen.lip_opening if clip.truth.lip_opening is None else clip.truth.lip_opening
    asked = [MEASURES[name] for name in SWEPT if set(MEASURES[name].judges) <= set(judges.hashes)]
    by_truth = [one for one in asked if one.kind == "truth"]
    by_frames = [one for one in asked if one.kind != "truth"]

    def measure(frames: Any) -> dict[str, float]:
        view = judges.look(frames, protocol)
        lips = view.curves.lip_opening
        found = values_of(by_frames, FrameContext(protocol, judges, view, whole, floor=floor))
        return found | values_of(by_truth, SpeechContext(protocol, lips, lips, true_lips=true))

    return [mean_over_takes([measure(take) for take in takes]) for takes in clip.rows.values()]


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

    Args:
        model: TalkingHead.
        root: Dataset folder with manifest.
        intensities: Values of ``GenerationOptions.intensity``.
        judge: Measures motion on frames; None: the regressor of the dataset, fitted if need be.
        clips: Number of clips, or all.
        seeds: Sampling seeds.
        split: Split of the clips.
        options: GenerationOptions that all rows share, or the defaults.
        max_frames: Only so many frames of each clip, or all.
        output: Folder for ``sweep.json``, its plot, and sheet and video of the first clip, or None.
        progress: Called with clips done, clips in all and a text.

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
    from metrics.evaluation.clips import CLIP_FAILURES
    from metrics.evaluation.evaluation import protocol_record, with_data
    from metrics.evaluation.judges import load_motion_judge, motion_judges
    from metrics.evaluation.loading import rendered_clips
    from metrics.evaluation.loop import ROW_PLANS

    options, started, root = options or GenerationOptions(), time.perf_counter(), Path(root)
    evaluation.check_options(model, options, tuple(seeds), intensities)
    data, chosen = evaluation.choose_data(root, split, clips)
    judge = judge or load_motion_judge("regressor", root, progress=progress, size=model.size)
    protocol, judges = evaluation.model_protocol(chosen, model.size, judge, max_frames), motion_judges(judge)
    judges = with_data(judges, data)
    variants = [dataclasses.replace(options, intensity=value) for value in intensities]
    rendered = rendered_clips(data, protocol.reading, swept_rows(model, tuple(seeds), variants))
    identities: list[str] = []
    found: list[list[dict[str, float]]] = []
    missing = []
    for number, clip in enumerate(rendered):
        name = clip.files.name
        try:
            if clip.failure:
                raise ValueError(clip.failure)
            measured = measure_clip(clip, judges, protocol)
        except CLIP_FAILURES as error:
            log.warning("clip %s is left out: %s", name, error)
            missing.append({"clip": name, "what": "all", "why": str(error)})
        else:
            if output is not None and not found:
                _write_pictures(output, clip, intensities)
            identities.append(clip.files.identity)
            found.append(measured)
        if progress:
            progress(number + 1, len(data.judged), f"sweeping {name}")
    require_judged(len(found), missing, hint=evaluation.PREPARE_AGAIN)
    rows = _aggregate(intensities, identities, found, protocol)
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


def _aggregate(
    intensities: Sequence[float],
    identities: Sequence[str],
    found: Sequence[Sequence[dict[str, float]]],
    protocol: Any,
) -> list[dict[str, Any]]:
    """Rows of the sweep: means over clips (the lag: median) with bootstrap intervals by identity."""
    from metrics.evaluation.intervals import cluster_bootstrap, mean, median
    from metrics.evaluation.registry import is_lag

    rows = []
    for index, intensity in enumerate(intensities):
        row: dict[str, Any] = {"intensity": float(intensity)}
        for name in found[0][0]:
            values, statistic = [clip[index][name] for clip in found], median if is_lag(name) else mean
            row[name] = cluster_bootstrap(values, identities, statistic, protocol.intervals).as_dict()
        rows.append(plain(row))
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

    Args:
        overrides: Words of the command line.
        parts: How model and judge are loaded, see `load_parts`.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged.
    """
    from experiments.evaluation import compose_evaluation, load_parts, log_progress

    config = compose_evaluation(overrides, "sweep")
    output = require_output_folder(config["output"])
    values = config["sweep"]["values"]
    if not isinstance(values, list) or not values:
        raise UserError(f"sweep.values={values}: give a list of intensities, e.g. [0,0.5,1,2]")
    model, judge, options = load_parts(config, values, **parts)
    rows = sweep_intensity(
        model,
        Path(config["data"]["root"]),
        values,
        judge,
        config["clips"],
        config["seeds"],
        config["split"],
        options,
        config["max_frames"],
        output,
        log_progress,
    )
    for row in rows:
        log.info(
            "intensity %g: head motion %s degrees, lip correlation %s",
            row["intensity"],
            *(
                "unknown" if row[name]["value"] is None else f"{row[name]['value']:.2f}"
                for name in ("head_motion", "lip_corr_zero")
            ),
        )
    log.info("written: %s", output)
    return 0
