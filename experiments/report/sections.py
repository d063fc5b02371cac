"""The parts of the report: each is made of the artefacts of one kind."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from datamodules.errors import UserError
from datamodules.files import file_inside, require_folder
from experiments.report.figures import figure_svg, lag_figure, read_curves, training_figure
from experiments.report.page import Section, Table, captioned
from experiments.report.sweep_figures import axis_name, sweep_figures, sweep_rows
from experiments.report.tables import ROW_TITLES, counted, measure_tables, people_in, sweep_table
from experiments.results import read_json, read_results

MOST_MISSING = 20
"""Entries that are told; results.json has all."""
KINDS = ("run.json", "times.json", "metrics.csv", "results.json", "sweep.json", "*.png", "*.mp4")
NO_ARTEFACTS = {"clips", "latents", "frames"}
"""Folders of a dataset, whose files are not for the page."""


def collect_sections(folder: Path) -> list[Section]:
    """Sections of the artefacts in a folder: videos first, then how they were made, then how they were judged.

    Raises:
        UserError: The folder is missing or holds none.
    """
    require_folder(folder, "a run, an evaluation, a sweep or a demo")
    left_out: list[str] = []
    found = {kind: _files(folder, kind, left_out) for kind in KINDS}
    pictures: dict[str, list[Path]] = {"data": [], "sweep_plot_": [], "sweep_": [], "step_": [], "": []}
    for path in _readable(found["*.png"], left_out):
        pictures[next(start for start in pictures if path.stem.startswith(start))].append(path)
    page = []
    if videos := sorted(found["*.mp4"], key=lambda path: not path.stem.startswith("portrait")):
        page.append(Section("Videos", "With sound where the clip has any.", videos=captioned(videos)))
    if found["run.json"] or found["times.json"]:
        page.append(run_section(found["run.json"], found["times.json"], folder))
    if data := pictures["data"]:
        page.append(Section("The data", "Frames of the clips that were made.", pictures=captioned(data)))
    if found["metrics.csv"]:
        latest = {path.parent: path for path in pictures["step_"]}
        page.append(training_section(found["metrics.csv"], list(latest.values()), folder))
    for path in found["results.json"]:
        with of_our_form(path):
            page.append(results_section(read_results(path), path))
    if sheets := pictures[""]:
        lead = "One clip each; a row runs from its first to its last frame."
        page.append(Section("Contact sheets", lead, pictures=captioned(sheets)))
    for path in found["sweep.json"]:
        beside = [picture for picture in pictures["sweep_"] if picture.parent == path.parent]
        with of_our_form(path):
            page.append(sweep_section(read_json(path), path, beside))
    if not page:
        raise UserError("; ".join([f"{folder}: nothing to report in it ({', '.join(KINDS)})", *left_out[:1]]))
    page[0].notes += [f"left out: {why}" for why in left_out[:MOST_MISSING]]
    return page


@contextmanager
def of_our_form(path: Path) -> Iterator[None]:
    """A stranger's file may be of any form inside: where it is not ours, that is one line."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error) as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise UserError(f"{path}: is not of the form that is written there ({told}); remove it") from error


def _files(folder: Path, pattern: str, left_out: list[str]) -> list[Path]:
    """Files of a pattern in the folder and below, without hidden ones and clips of datasets.

    Links that lead out of the folder, and what is no file, are told in ``left_out``.
    """
    files = []
    for path in sorted(folder.rglob(pattern)):
        parts = path.relative_to(folder).parts
        if NO_ARTEFACTS & set(parts[:-1]) or any(part.startswith(".") for part in parts):
            continue
        try:
            files.append(file_inside(folder, str(path.relative_to(folder))))
        except UserError as error:
            left_out.append(str(error))
    return files


def _readable(pictures: Sequence[Path], left_out: list[str]) -> list[Path]:
    """The files that are pictures, not only by their names; others are told in ``left_out``."""
    good = []
    for path in pictures:
        try:
            with Image.open(path) as picture:
                picture.verify()
        except Exception as error:  # Pillow raises half a dozen kinds
            left_out.append(f"{path}: is no picture that can be shown ({type(error).__name__})")
        else:
            good.append(path)
    return good


def _place(path: Path, folder: Path) -> str:
    """Which run a file belongs to: its folders below ``folder`` that say something."""
    parts = path.relative_to(folder).parts[:-1]
    silent = ("runs", "metrics", "samples", "version_0")
    return " ".join(part for part in parts if part not in silent).replace("version_", "start ") or folder.name


def run_section(runs: Sequence[Path], times: Sequence[Path], folder: Path) -> Section:
    """What was run: machine and versions once, the trained stages (``run.json``), the time of each step (``times.json``).

    Raises:
        UserError: A file holds no object.
    """
    section, stages = Section("What was run"), []
    for path in runs:
        with of_our_form(path):
            record = read_json(path)
            machine = dict(record.get("machine") or {})
            machine |= machine.pop("packages", {})
            section.facts |= {name: _told(value) for name, value in machine.items()}
            config_hash = (record.get("identity") or {}).get("config_hash")
            told = {key: record.get(key) for key in ("name", "ablation", "seed", "steps")}
            known = [*told.values(), _seconds(record.get("seconds")), config_hash, record.get("overrides")]
            stages.append([_place(path, folder), *map(_told, known)])
    if stages:
        head = ["run", "experiment", "ablation", "seed", "steps", "time", "config hash", "overrides"]
        section.tables.append(Table("Trained stages", head, stages))
    for path in times:
        rows = [[step, _seconds(seconds)] for step, seconds in read_json(path).items()]
        section.tables.append(Table("Time of each step", ["step", "time"], rows))
    return section


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)


def _seconds(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def training_section(paths: Sequence[Path], samples: Sequence[Path], folder: Path) -> Section:
    """Training curves from the metrics.csv files of Lightning's CSVLogger, and the last sample pictures."""
    section = Section("Training curves", "Blue: training, orange: validation; over optimiser steps.")
    for path in paths:
        with of_our_form(path):
            if curves := read_curves(path):
                section.figures.append((training_figure(curves), _place(path, folder)))
            else:
                section.notes.append(f"{_place(path, folder)}: too few points for a curve")
    for path in samples:
        step = path.stem.removeprefix("step_").lstrip("0")
        what = "a row: source, driving, reconstruction, warped source, mask"
        section.pictures.append((path, f"{_place(path, folder)}, step {step}; {what}"))
    return section


def results_section(results: Mapping[str, Any], path: Path) -> Section:
    """Evaluation: every measure with its interval, the rows side by side, the correlation over the lag."""
    protocol, clips, run = results["protocol"], results["clips"], results["run"] or {}
    unseen = "" if "videos" in run else " that no stage was trained on"
    section = Section(
        f"Evaluation of {results['method']}",
        f"{counted(len(clips), 'clip')} of {counted(people_in(clips), 'identity')}{unseen}. In brackets: 95 % interval "
        "by a bootstrap over identities (of distances over all clips a jackknife). Motion is measured on the frames, "
        "by a judge.",
        facts={"protocol": f"{protocol['name']}, {protocol['hash']}"},
        tables=measure_tables(results),
        notes=results.get("notes", []) + _missing(results["missing"][:MOST_MISSING]),
    )
    judge = run.get("judge") or {}
    if scores := judge.get("held_out_r2"):
        told = ", ".join(f"{name.replace('_', ' ')} {score:.2f}" for name, score in scores.items())
        what = "share of variance it explains on unseen identities"
        section.facts["judge"] = f"{judge.get('name')}; {what}: {told}"
    if curves := results.get("lag_curves"):
        caption = "Correlation with the true lip opening, mean over clips"
        section.figures.append((lag_figure(curves, ROW_TITLES), caption))
    if (more := len(results["missing"]) - MOST_MISSING) > 0:
        section.notes.append(f"and {more} more, in {path.name}")
    return section


def _missing(entries: Sequence[Any]) -> list[str]:
    """Each in words; an entry of an older version is text already."""
    told = []
    for one in entries:
        if isinstance(one, dict):
            clip = "all clips" if one["clip"] == "*" else one["clip"]
            one = f"{clip}: {one['what']} ({one['why']})"
        told.append(f"missing: {one}")
    return told


def sweep_section(sweep: dict[str, Any], path: Path, pictures: Sequence[Path]) -> Section:
    """A sweep: plots, table, and the sheets that lie in its folder."""
    if "rows" not in sweep:
        raise UserError(f"{path}: is no result of 'ifmdm sweep' (lacks rows)")
    rows = sweep_rows(sweep)
    settings = list(
        dict.fromkeys(axis_name(sweep, row["series"]) for row in rows if row["value"] is not None)
    )
    swept = ", the ".join(settings) or "options"
    lead = f"The same speech and seeds with several values of the {swept}."
    if "intensity" in settings:
        lead += " Head motion should grow at every step while the lips keep following the speech; at 0 the head rests and "
        lead += "speech and blinks go on."
    section = Section(
        "Motion intensity" if settings[:1] == ["intensity"] else f"Sweep of the {swept}",
        lead,
        tables=[sweep_table(rows, sweep.get("protocol") or {"name": ""})],
        pictures=captioned(pictures),
        notes=_missing(sweep.get("missing", [])),
    )
    section.figures += [(figure_svg(figure), caption) for figure, caption in sweep_figures(sweep).values()]
    return section
