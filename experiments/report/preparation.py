"""The report of a preparation: what became of every video, as ``preparation.json`` and ``preparation.html``."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.batches import FPS
from datamodules.clips.manifest import SPLITS, ClipRecord
from datamodules.media.video import VideoReader
from datamodules.preparation.run import Prepared
from datamodules.preparation.sources import Availability, Rejection, Source
from experiments.pictures import contact_sheet, spread
from experiments.report.figures import figure_svg, new_figure
from experiments.report.page import Section, Table, write_page
from experiments.results import write_json

MOST_ROWS = 300
"""Videos and missing originals that the page lists by name; the JSON lists all."""
SHEET_CLIPS, SHEET_FRAMES = 16, 6
BINS = 12
HISTOGRAMS: dict[str, Callable[[ClipRecord], float | None]] = {
    "length in seconds": lambda clip: clip.frames / FPS,
    "side of the face in pixels of the source": lambda clip: clip.quality.get("face"),
    "loudness in dB of full scale": lambda clip: clip.quality.get("loudness"),
    "sharpness": lambda clip: clip.quality.get("sharpness"),
    "yaw, middle of its range in degrees": lambda clip: _middle(clip, "yaw"),
    "yaw, width of its range in degrees": lambda clip: _width(clip, "yaw"),
    "pitch, middle of its range in degrees": lambda clip: _middle(clip, "pitch"),
    "roll, middle of its range in degrees": lambda clip: _middle(clip, "roll"),
}


def _middle(clip: ClipRecord, angle: str) -> float | None:
    return sum(limits) / 2 if (limits := clip.quality.get(angle)) else None


def _width(clip: ClipRecord, angle: str) -> float | None:
    return limits[1] - limits[0] if (limits := clip.quality.get(angle)) else None


def write_preparation_report(prepared: Prepared, found: Availability, output: Path, what: str) -> Path:
    """Write both files, and a contact sheet of the crops, into the dataset's folder.

    Args:
        prepared: what was made.
        found: of what, and remarks, such as what is inconsistent in annotation files.
        output: folder of the dataset.
        what: what was prepared, in words.

    Returns:
        Path of the page.
    """
    facts = summary(prepared, found)
    write_json(output / "preparation.json", facts)
    sheet = _sheet(prepared.records, output)
    sections = _sections(facts, prepared, sheet)
    return write_page(sections, output / "preparation.html", "Prepared videos", f"{what}.")


def summary(prepared: Prepared, found: Availability) -> dict[str, Any]:
    """All figures of the report, as plain values."""
    records = prepared.records
    hours = sum(record.frames for record in records) / FPS / 3600
    times: Counter[str] = Counter()
    for outcome in prepared.outcomes.values():
        times.update(outcome.times)
    return {
        "videos": {
            "there": len(found.sources),
            "finished": len(prepared.outcomes),
            "with clips": len({record.source for record in records}),
            "left": list(prepared.missing),
        },
        "clips": len(records),
        "listed clips that are not there": list(found.missing),
        "hours": hours,
        "hours_seen": sum(outcome.seconds for outcome in prepared.outcomes.values()) / 3600,
        "identities": len({record.identity for record in records}),
        "splits": {
            split: {
                "clips": sum(record.split == split for record in records),
                "identities": len({record.identity for record in records if record.split == split}),
            }
            for split in SPLITS
        },
        "rejected": prepared.reasons(),
        "seconds_of_work": dict(times),
        "histograms": {name: _histogram(records, read) for name, read in HISTOGRAMS.items()},
        "notes": list(found.notes),
        "by_video": _by_video(prepared, found.sources),
    }


def _histogram(records: Sequence[ClipRecord], read: Any) -> dict[str, Any]:
    values = [float(value) for record in records if (value := read(record)) is not None]
    if not values:
        return {"clips": 0}
    counts, edges = np.histogram(values, bins=BINS)
    return {
        "clips": len(values),
        "median": float(np.median(values)),
        "counts": counts.tolist(),
        "edges": [round(float(edge), 4) for edge in edges],
    }


def _by_video(prepared: Prepared, sources: Sequence[Source]) -> list[dict[str, Any]]:
    done = [(one.name, prepared.outcomes[one.id]) for one in sources if one.id in prepared.outcomes]
    return [
        {
            "video": name,
            "clips": len(outcome.records),
            "seconds": round(sum(record.frames for record in outcome.records) / FPS, 2),
            "rejected": [f"{one.reason}: {one.detail}" for one in outcome.rejections],
        }
        for name, outcome in done
    ]


def _sheet(records: Sequence[ClipRecord], output: Path) -> Path | None:
    """Frames of some clips, evenly spread over the manifest."""
    if not records:
        return None
    chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, SHEET_CLIPS).astype(int))]
    rows = {}
    for record in chosen:
        numbers = spread(np.arange(record.frames), SHEET_FRAMES)
        rows[record.id] = VideoReader(output / record.video).get(numbers)
    return contact_sheet(rows, output / "preparation.png", tile=112)


def _sections(facts: dict[str, Any], prepared: Prepared, sheet: Path | None) -> list[Section]:
    sections = [
        _overview(facts, sheet),
        Section("What was not kept, and why", tables=[_reasons(prepared.rejections)])
        if prepared.rejections
        else Section("What was not kept, and why", "Nothing was rejected."),
    ]
    figures = [
        (_bars(one), f"{name}: {one['clips']} clips, median {one['median']:.4g}")
        for name, one in facts["histograms"].items()
        if one["clips"]
    ]
    if figures:
        sections.append(Section("What the clips are like", figures=figures))
    videos = [
        [one["video"], str(one["clips"]), "; ".join(one["rejected"]) or "–"] for one in facts["by_video"]
    ]
    table = Table("", ["video", "clips kept", "rejected parts"], videos[:MOST_ROWS])
    sections.append(Section("Every video", tables=[table], notes=_more(videos)))
    if times := facts["seconds_of_work"]:
        total = sum(times.values()) or 1.0
        shares = {name: f"{seconds:.0f} s, {seconds / total:.0%}" for name, seconds in times.items()}
        sections.append(Section("Where the time went", facts=shares))
    remarks = [f"listed, but not there: {name}" for name in facts["listed clips that are not there"]]
    remarks += facts["notes"]
    if remarks:
        sections.append(Section("Remarks", notes=remarks[:MOST_ROWS] + _more(remarks)))
    return sections


def _more(items: Sequence[Any]) -> list[str]:
    """How many the page leaves out."""
    return [f"{len(items) - MOST_ROWS} more stand in preparation.json"] if len(items) > MOST_ROWS else []


def _overview(facts: dict[str, Any], sheet: Path | None) -> Section:
    videos = facts["videos"]
    shown = {
        "listed clips that are not there": len(facts["listed clips that are not there"]),
        **{f"videos {name}": videos[name] for name in ("there", "finished", "with clips")},
        "clips": facts["clips"],
        "hours of clips": f"{facts['hours']:.2f}",
        "hours looked at": f"{facts['hours_seen']:.2f}",
        "identities": facts["identities"],
    }
    splits = [[name, str(n["clips"]), str(n["identities"])] for name, n in facts["splits"].items()]
    return Section(
        "What was kept",
        facts={name: str(value) for name, value in shown.items()},
        tables=[Table("Splits", ["split", "clips", "identities"], splits)],
        pictures=[] if sheet is None else [(sheet, "frames of some clips")],
    )


def _reasons(rejections: Sequence[Rejection]) -> Table:
    """How often each reason, how long in all, and one example."""
    groups: dict[str, list[Rejection]] = defaultdict(list)
    for one in rejections:
        groups[one.reason].append(one)
    rows = []
    for reason, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        known = [one.end - one.start for one in group if one.end is not None]
        length = f"{sum(known) / 60:.1f} min" if known else "–"
        rows.append([reason, str(len(group)), length, f"{group[0].source}: {group[0].detail}"])
    return Table("Parts of videos", ["reason", "parts", "length", "such as"], rows)


def _bars(histogram: dict[str, Any]) -> str:
    figure = new_figure(5.0, 1.8)
    axis = figure.add_subplot()
    edges = histogram["edges"]
    axis.bar(edges[:-1], histogram["counts"], width=np.diff(edges), align="edge", color="#2b6cb0", alpha=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_ylabel("clips")
    return figure_svg(figure)
