"""``ifmdm sweep``: how rendered frames answer to a setting of the generation, and at what price; or a search for the best."""

import argparse
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import UserError
from datamodules.files import require_output_folder
from experiments.config import config_names, require_model
from experiments.results import plain, read_json, require_judged, write_json, write_whole

if TYPE_CHECKING:
    from experiments.evaluation_setup import EvaluatedModel
    from experiments.sweep.plan import SweepPlan
    from metrics.evaluation.judges import Judges

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm sweep``."""
    parser.description = (
        "Measure quality over a setting: sweep=NAME, a file of configs/sweep, and overrides of configs/sweep.yaml. "
        "A sweep that was stopped goes on when it is started again."
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="sweep=motion_intensity model=DIR data.root=DIR ..."
    )
    parser.epilog = f"sweep: {', '.join(config_names('sweep'))}"


def run(args: argparse.Namespace) -> int:
    """Sweep as the command line says, see `sweep_main`."""
    return sweep_main(args.overrides)


def run_sweep(
    evaluated: "EvaluatedModel", plan: "SweepPlan", output: Path, judges: "Judges | None" = None
) -> dict[str, Any]:
    """Measure the points of a plan; sources, speech and seeds are the same in all.

    Records of clips, plots, tables, sheet and video of the first clip and ``sweep.json`` go to ``output``; what is there
    already is not rendered again.

    Returns:
        Content of sweep.json: ``rows`` of ``{"series", "value", MEASURE: {"value", "low", "high", "n"}}`` and what they say
        together, see `Sweep`.

    Raises:
        UserError: Not one clip could be judged; nothing but records is written then. Or another sweep lies there.
    """
    from experiments.evaluation_setup import PREPARE_AGAIN
    from experiments.report.sweep_figures import sweep_pictures
    from experiments.sweep.analysis import Sweep
    from experiments.sweep.points import meter
    from experiments.sweep.tables import csv_text, markdown_text
    from experiments.sweep.videos import write_videos

    started, metering = time.perf_counter(), meter(evaluated, plan, output, judges)
    refuse_other_sweep(output, plan, metering.base)
    clips = metering.measure(plan.all, shown=evaluated.chosen[0])
    require_judged(len(clips), metering.missing, hint=PREPARE_AGAIN)
    sweep = Sweep(plan, metering, clips)
    result = plain(
        {
            "protocol": metering.record,
            "run": {
                **evaluated.record(started),
                "identities": len(set(sweep.people)),
                "judges": metering.judges.weights(),
            },
            "axes": {one.name: list(one.axis) for one in plan.series},
            "rows": sweep.rows(),
            "real": sweep.real(),
            "differences": sweep.differences(),
            "answers": sweep.answers(),
            "trade_off": sweep.trade_off(),
            "following": sweep.following(),
            "missing": metering.missing,
        }
    )
    write_videos(plan, metering, [files for files in clips if files.name == evaluated.chosen[0]], output)
    for name, picture in sweep_pictures(result).items():
        write_whole(output / name, picture)
    write_whole(output / "sweep.csv", csv_text(result["rows"]))
    write_whole(output / "sweep.md", markdown_text(result))
    write_json(output / "sweep.json", result)
    return result


def refuse_other_sweep(output: Path, plan: "SweepPlan", base: Mapping[str, Any]) -> None:
    """Refuse a folder with a sweep over other settings, or of another model, seeds or protocol: it would be lost.

    ``base`` is that of the new one's `PointMeter`.
    """
    path = output / "sweep.json"
    found = read_json(path) if path.is_file() else None
    if not isinstance(found, dict) or not found.get("axes"):
        return
    lies, asked, run = sorted(found["axes"]), sorted(one.name for one in plan.series), found["run"]
    for old, new, told in (
        (lies, asked, f"over {', '.join(lies)}, not {', '.join(asked)}"),
        (run["model"]["weights"], base["weights"], "of another model"),
        (run["seeds"], list(base["seeds"]), f"with seeds={run['seeds']}"),
        (
            found["protocol"]["hash"],
            base["protocol"]["hash"],
            "of other clips, or by other judges or settings",
        ),
    ):
        if old != new:
            raise UserError(f"{output}: holds a sweep {told}; choose another output=, or remove it")


def sweep_main(overrides: Sequence[str], **parts: Any) -> int:
    """Compose, sweep and write what was found, or search if the sweep's file says so.

    ``parts`` say how model and judge are loaded, see `set_up_config`.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged.
    """
    require_model(overrides)
    from experiments.evaluation_setup import compose_evaluation, set_up_config
    from experiments.sweep.plan import read_plan

    config = compose_evaluation(overrides, "sweep")
    output = require_output_folder(config["output"])
    if "search" in config["sweep"]:
        from experiments.sweep.search import search_main

        return search_main(config, output, **parts)
    plans: list[SweepPlan] = []

    def variants(options: Any) -> list[Any]:
        plans.append(read_plan(config["sweep"], options))
        return [point.options for point in plans[0].all]

    evaluated = set_up_config(config, variants, **parts)
    result = run_sweep(evaluated, plans[0], output)
    for row in result["rows"]:
        log.info("%s: %s", *told(row))
    for one in result["following"]:
        for space, blocks in one["blocks"].items():
            slopes = ", ".join(
                f"{name} {line['slope']['value']:.2f}" for name, line in blocks.items() if line["slope"]
            )
            if slopes:
                log.info("%s: slope of the %s std on the requested one: %s", one["series"], space, slopes)
    log.info("written: %s", output / "sweep.md")
    return 0


def told(row: Mapping[str, Any]) -> tuple[str, str]:
    """A row in words: which, and what it says."""
    value = "" if row["value"] is None else f" {row['value']:g}"
    known = {name: row[name]["value"] for name in ("head_motion", "lip_corr_zero", "csim") if name in row}
    words = [f"{name} {'unknown' if one is None else format(one, '.2f')}" for name, one in known.items()]
    return f"{row['series']}{value}", ", ".join(words)
