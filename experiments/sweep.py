"""``ifmdm sweep``: how head motion, lips and sharpness of rendered frames answer to the motion intensity."""

import argparse
import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import UserError
from datamodules.files import require_output_folder
from experiments.config import require_model
from experiments.results import plain, require_judged, write_json, write_whole

if TYPE_CHECKING:
    from experiments.evaluation_setup import EvaluatedModel

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
    evaluated: "EvaluatedModel", intensities: Sequence[float] = INTENSITIES, output: Path | None = None
) -> list[dict[str, Any]]:
    """Measure a model's rendered frames at several motion intensities; sources, speech and seeds are the same in all.

    ``intensities`` are values of ``GenerationOptions.intensity``; ``sweep.json``, its plot, and sheet and video of the
    first clip go to ``output``.

    Returns:
        One row an intensity: ``{"intensity", MEASURE: {"value", "low", "high", "n"}}``; head_motion and
        jitter in degrees, sharpness (of whole frames) as a share of the real clip's.

    Raises:
        UserError: Not one clip could be judged; nothing is written then.
    """
    from experiments.evaluation_setup import PREPARE_AGAIN
    from experiments.model_clips import swept_rows
    from experiments.report.figures import sweep_picture
    from metrics.evaluation.aggregate import aggregate
    from metrics.evaluation.clip_measures import each_clip, measure_clip
    from metrics.evaluation.clip_results import ROW_FAMILIES, ClipResult, RowFamilies
    from metrics.evaluation.clips import Missing
    from metrics.evaluation.judges import motion_judges
    from metrics.evaluation.run import protocol_record, with_data

    started, data, protocol = time.perf_counter(), evaluated.data, evaluated.protocol
    judges = with_data(motion_judges(evaluated.judge), data)
    variants = [dataclasses.replace(evaluated.options, intensity=value) for value in intensities]
    rendered = evaluated.clips(swept_rows(evaluated.model, evaluated.seeds, variants))
    rows_asked = RowFamilies((), tuple(str(place) for place in range(len(intensities))))
    results: list[ClipResult] = []
    missing: list[Missing] = []

    def measure(clip: Any) -> ClipResult:
        return measure_clip(clip, judges, protocol, rows_asked)[0]

    for clip, result in each_clip(
        rendered, measure, missing, evaluated.progress, len(data.judged), "sweeping"
    ):
        if output is not None and not results:
            _write_pictures(output, clip, intensities)
        results.append(result)
    require_judged(len(results), missing, hint=PREPARE_AGAIN)
    metrics = aggregate(results, protocol, judges)
    rows = []
    for intensity, row in zip(intensities, rows_asked.generation, strict=True):
        known = {
            name: dataclasses.asdict(metrics[f"{name}_{row}"]) for name in SWEPT if f"{name}_{row}" in metrics
        }
        rows.append(plain({"intensity": float(intensity), **known}))
    if output is not None:
        sweep = {
            "protocol": protocol_record(protocol, data, judges, ROW_FAMILIES["model"]),
            "run": evaluated.record(started),
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

    ``parts`` say how model and judge are loaded, see `set_up_config`.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged.
    """
    require_model(overrides)
    from experiments.evaluation_setup import compose_evaluation, set_up_config

    config = compose_evaluation(overrides, "sweep")
    output = require_output_folder(config["output"])
    values = config["sweep"]["values"]
    if not isinstance(values, list) or not values:
        raise UserError(f"sweep.values={values}: give a list of intensities, e.g. [0,0.5,1,2]")
    for row in sweep_intensity(set_up_config(config, values, **parts), values, output):
        known = [row[name]["value"] for name in ("head_motion", "lip_corr_zero")]
        told = ["unknown" if value is None else f"{value:.2f}" for value in known]
        log.info("intensity %g: head motion %s degrees, lip correlation %s", row["intensity"], *told)
    log.info("written: %s", output)
    return 0
