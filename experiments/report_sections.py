"""The parts of the report: each is made of the artefacts of one kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from experiments.report_figures import (
    ROW_TITLES,
    UNITS_OF_LANDMARKS,
    VIDEO_TITLES,
    explanations,
    interval,
    lag_figure,
    number,
    read_curves,
    sweep_figure,
    training_figure,
)
from experiments.results import read_json
from metrics.evaluation.loop import ROW_PLANS, RowPlan

MAX_VIDEO_BYTES = 1_000_000
MAX_VIDEOS = 16
BEST = "mouth_lmd_best"
"""Measure whose name in results ends with the number of seeds."""


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: Heading.
        lead: One or two sentences under it, plain text.
        facts: Name -> value pairs.
        tables: Tables of plain texts: ``{"caption", "head": [..], "rows": [[..]]}``.
        figures: SVG elements, with captions.
        pictures: (path, caption) of PNG or JPEG files.
        videos: (path, caption) of mp4 files.
        notes: Remarks, such as what is missing.
    """

    title: str
    lead: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[tuple[Path, str]] = field(default_factory=list)
    videos: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def captioned(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Files with the caption that their names give."""
    return [(path, path.stem.replace("_", " ")) for path in paths]


def _place(path: Path, folder: Path) -> str:
    """Which run a file belongs to: its folders below ``folder`` that say something."""
    parts = path.relative_to(folder).parts[:-1]
    silent = ("runs", "metrics", "samples", "version_0")
    return " ".join(part for part in parts if part not in silent).replace("version_", "start ") or folder.name


def run_section(runs: Sequence[Path], times: Sequence[Path], folder: Path) -> Section:
    """What was run: machine and versions once, the trained stages, and the time of each step.

    Args:
        runs: ``run.json`` files, plain objects; those of trainings hold stage, steps, seconds and machine.
        times: ``times.json`` files: step -> seconds.
        folder: The folder that is reported.

    Raises:
        UserError: A file holds no object.
    """
    section = Section("What was run")
    stages = []
    for path in runs:
        record = _record(path)
        machine = record.pop("machine", None) or {}
        for name, value in machine.items():
            section.facts.update(_flat("" if name == "packages" else name, value))
        if "stage" in record:
            commit = (record.get("identity") or {}).get("config_hash") or "–"
            steps, seconds = record.get("steps"), record.get("seconds")
            stages.append(
                [_place(path, folder), str(record.get("name")), str(steps), _seconds(seconds), commit]
            )
        else:
            section.facts.update(
                {key: text for name, value in record.items() for key, text in _flat(name, value).items()}
            )
    if stages:
        head = ["run", "experiment", "steps", "time", "config hash"]
        section.tables.append({"caption": "Trained stages", "head": head, "rows": stages})
    for path in times:
        rows = [[step, _seconds(seconds)] for step, seconds in _record(path).items()]
        section.tables.append({"caption": "Time of each step", "head": ["step", "time"], "rows": rows})
    return section


def _record(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict):
        raise UserError(f"{path}: holds no JSON object; write it anew or remove it")
    return record


def _seconds(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return "–"
    return f"{seconds:.0f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _flat(name: str, value: Any) -> dict[str, str]:
    """Nested plain values as lines: numbers rounded, lists joined."""
    if isinstance(value, Mapping):
        return {
            key: text for inner, item in value.items() for key, text in _flat(f"{name} {inner}", item).items()
        }
    if isinstance(value, list):
        return {name: ", ".join(str(item) for item in value) or "none"}
    if name.endswith("seconds") and isinstance(value, int | float):
        return {name.removesuffix("seconds").strip() or "time": _seconds(value)}
    if isinstance(value, float):
        return {name: f"{value:.4g}"}
    return {name: "unknown" if value is None else str(value)}


def training_section(paths: Sequence[Path], samples: Sequence[Path], folder: Path) -> Section:
    """Training curves from the metrics.csv files of Lightning's CSVLogger, and the last sample pictures."""
    section = Section("Training curves", "Blue: training, orange: validation; over optimiser steps.")
    for path in paths:
        curves = read_curves(path)
        if curves:
            section.figures.append((training_figure(curves), _place(path, folder)))
        else:
            section.notes.append(f"{_place(path, folder)}: too few points for a curve")
    for path in samples:
        step = int(path.stem.removeprefix("step_"))
        what = "a row: source, driving, reconstruction, warped source, mask"
        section.pictures.append((path, f"{_place(path, folder)}, step {step}; {what}"))
    return section


def results_section(results: Mapping[str, Any], path: Path) -> Section:
    """Evaluation: every measure with its interval, the table of rows, the correlation over the lag."""
    metrics, protocol = results["metrics"], results["protocol"]
    clips = results["clips"]
    people = len({clip.get("identity", clip["clip"]) for clip in clips})
    run = results["run"] or {}
    videos = "videos" in run
    unseen = "" if videos else " that no stage was trained on"
    section = Section(
        f"Evaluation of {results['method']}",
        f"{_counted(len(clips), 'clip')} of {_counted(people, 'identity')}{unseen}. In brackets: 95 % interval "
        "by a bootstrap over identities (of distances over all clips a jackknife). Motion is measured on the frames, "
        "by a judge.",
        {"protocol": f"{protocol['name']}, {protocol['hash']}"},
    )
    judge = run.get("judge") or {}
    if scores := judge.get("held_out_r2"):
        text = ", ".join(f"{name.replace('_', ' ')} {score:.2f}" for name, score in scores.items())
        section.facts["judge"] = (
            f"{judge.get('name')}; share of variance it explains on unseen identities: {text}"
        )
    section.tables += _measure_tables(metrics, protocol, videos, len(clips))
    if results.get("lag_curves"):
        section.figures.append(
            (lag_figure(results["lag_curves"]), "Correlation with the true lip opening, mean over clips")
        )
    section.notes += results.get("notes", [])
    section.notes += [f"missing: {_missing_line(entry)}" for entry in results["missing"][:20]]
    if len(results["missing"]) > 20:
        section.notes.append(f"and {len(results['missing']) - 20} more, in {path.name}")
    return section


def _measure_tables(
    metrics: Mapping[str, Any], protocol: Mapping[str, Any], videos: bool, clips: int
) -> list[dict[str, Any]]:
    """What each measure says, and those that several rows have beside one another.

    Args:
        metrics: By name.
        protocol: Of the results.
        videos: Whether they are of anyone's videos.
        clips: Number of clips that were judged.
    """
    plan, titles = ROW_PLANS["model"], ROW_TITLES
    if videos:
        plan, titles = ROW_PLANS[(protocol.get("settings") or {}).get("task", "generation")], VIDEO_TITLES
    known, texts = _known(metrics, plan), explanations()
    units = {name: _unit(name, protocol) for name in known}
    rows = [
        [
            _coded(texts[name]["title"], key),
            f"{interval(metrics.get(key), units[name])}{_of_some(metrics.get(key), clips)}",
            texts[name]["says"],
        ]
        for name, key in known.items()
    ]
    told = {"caption": "Measures", "head": ["measure", "value", "what it says"], "rows": rows}
    values = {name: {row: metrics.get(plan.name(name, row)) for row in titles} for name in known}
    values = {
        name: {row: one for row, one in of.items() if one and one["value"] is not None}
        for name, of in values.items()
    }
    compared = {name: of for name, of in values.items() if len(of) > 1}
    shown = [row for row in titles if any(row in of for of in compared.values())]
    body = [
        [
            _head(name, units[name]),
            *(f"{_bare(of.get(row), units[name])}{_of_some(of.get(row), clips)}" for row in shown),
        ]
        for name, of in compared.items()
    ]
    head = ["measure", *(titles[row] for row in shown)]
    return [told, {"caption": "Beside the other rows", "head": head, "rows": body}]


def _known(metrics: Mapping[str, Any], plan: RowPlan) -> dict[str, str]:
    """Measures that are explained and of which some row has a value: the name that results give the bare one."""
    best = next((key for key in metrics if key.startswith(BEST)), BEST)
    keys = {**{name: name for name in explanations()}, BEST: best}
    return {
        name: key
        for name, key in keys.items()
        if key in metrics or any(plan.name(name, row) in metrics for row in ROW_TITLES)
    }


def _coded(title: str, key: str) -> str:
    """Title of a measure with its name in results, where that is another word."""
    return title if title.lower() == key.replace("_", "-") else f"{title} ({key})"


def _of_some(one: Mapping[str, Any] | None, clips: int) -> str:
    """Of how many clips a value is, where it is not of all: rows side by side may be of others."""
    return f" ({one['n']} of {clips} clips)" if one and 0 < one["n"] < clips else ""


def _counted(number: int, what: str) -> str:
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number} {what if number == 1 else many}"


def _unit(name: str, protocol: Mapping[str, Any]) -> str:
    """Unit of a measure; some have another where the protocol's judge of motion finds landmarks."""
    usual = explanations()[name]["unit"]
    motion = (protocol.get("settings") or {}).get("motion") or {}
    return UNITS_OF_LANDMARKS.get(name, usual) if "landmarks" in motion else usual


def _head(name: str, unit: str) -> str:
    title = explanations()[name]["title"]
    return f"{title} ({unit})" if unit else title


def _bare(one: Mapping[str, Any] | None, unit: str, bounds: bool = False) -> str:
    """A value without its unit, which the head of the column states."""
    text = interval(one, unit) if bounds else number(one["value"] if one else None, unit)
    return text.replace(unit, "").replace("  ", " ").strip() if unit else text


def _missing_line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    clip = "all clips" if entry["clip"] == "*" else entry["clip"]
    return f"{clip}: {entry['what']} ({entry['why']})"


def sweep_section(sweep: Mapping[str, Any], path: Path, pictures: Sequence[Path]) -> Section:
    """Motion intensity: plot, table, and the sheets that lie beside it."""
    if not isinstance(sweep, dict) or "rows" not in sweep:
        raise UserError(f"{path}: is no result of 'ifmdm sweep' (lacks rows)")
    section = Section(
        "Motion intensity",
        "The same speech and seeds at several intensities. Head motion should grow at every step while the "
        "lips keep following the speech; at 0 the head rests and speech and blinks go on.",
        pictures=captioned(pictures),
    )
    rows = sweep["rows"]
    names = [name for name in rows[0] if name != "intensity"] if rows else []
    units = {name: _unit(name, sweep.get("protocol") or {}) for name in names}
    head = ["intensity", *(_head(name, units[name]) for name in names)]
    body = [
        [f"{row['intensity']:g}", *(_bare(row[name], units[name], bounds=True) for name in names)]
        for row in rows
    ]
    section.tables.append({"caption": "Measured on the rendered frames", "head": head, "rows": body})
    if rows:
        section.figures.append((sweep_figure(rows), "Mean over clips; shaded: 95 % interval by identity"))
    section.notes += [f"missing: {_missing_line(entry)}" for entry in sweep.get("missing", [])]
    return section


def video_section(videos: Sequence[Path]) -> Section:
    """Videos under a megabyte, embedded; larger ones are named."""
    section = Section("Videos", "With sound where the clip has any.")
    for path, caption in captioned(videos):
        if path.stat().st_size < MAX_VIDEO_BYTES and len(section.videos) < MAX_VIDEOS:
            section.videos.append((path, caption))
        else:
            section.notes.append(f"not embedded ({path.stat().st_size / 1e6:.1f} MB): {path.name}")
    return section
