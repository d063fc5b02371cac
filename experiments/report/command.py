"""``ifmdm report``: one self-contained HTML page of what lies in a run, sweep or demo folder."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.errors import UserError
from datamodules.files import require_folder, require_output_folder

if TYPE_CHECKING:
    from experiments.report.page import Section

log = logging.getLogger(__name__)

KINDS = ("run.json", "times.json", "metrics.csv", "results.json", "sweep.json", "*.png", "*.mp4")
NO_ARTEFACTS = {"clips", "latents", "frames"}
"""Folders of a dataset, whose files are not for the page."""
TITLE = "Talking-head experiment"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm report``."""
    parser.description = (
        "Write one HTML page of everything in the folders: tables, curves, pictures, videos. "
        "It loads nothing and can be sent as one file."
    )
    what = "folder of a run, an evaluation, a sweep or a demo"
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=what)
    parser.add_argument("--output", type=Path, help="the page (default: report.html in the first folder)")
    parser.add_argument("--title", default=TITLE, help="heading of the page")


def run(args: argparse.Namespace) -> int:
    """Write the page as the command line says."""
    if args.output is not None:
        require_output_folder(args.output.parent)
    log.info("report: %s", write_report(args.runs, args.output, args.title))
    return 0


def write_report(
    folders: Sequence[Path],
    output: Path | None = None,
    title: str = TITLE,
    lead: str = "",
    verdict: "Section | None" = None,
) -> Path:
    """Write one self-contained HTML page; returns its path.

    Args:
        folders: With artefacts.
        output: The page; None: ``report.html`` in the first folder.
        title: Heading of the page.
        lead: A sentence under it.
        verdict: A section that is put behind the first one, the videos.

    Raises:
        UserError: A folder is missing or holds nothing to report, or a file in it is damaged.
    """
    from experiments.report.page import write_page

    sections: list[Section] = []
    for folder in folders:
        part = collect_sections(folder)
        if len(folders) > 1:
            for section in part:
                section.title = f"{section.title} ({folder.name})"
        sections += part
    if verdict is not None:
        sections.insert(1, verdict)
    judged = [section for section in sections if "protocol" in section.facts]
    if len({section.facts["protocol"] for section in judged}) > 1:
        note = "the results on this page are of different protocol hashes: they may not be ranked together"
        for section in judged:
            section.notes.insert(0, note)
    return write_page(sections, output or folders[0] / "report.html", title, lead)


def collect_sections(folder: Path) -> "list[Section]":
    """Sections of the artefacts in a folder: videos first, then how they were made, then how they were judged.

    Raises:
        UserError: The folder is missing or holds none.
    """
    from experiments.report import sections
    from experiments.report.page import Section, captioned
    from experiments.results import read_json, read_results

    require_folder(folder, "a run, an evaluation, a sweep or a demo")
    found = {kind: _files(folder, kind) for kind in KINDS}
    pictures: dict[str, list[Path]] = {"data": [], "sweep_": [], "step_": [], "": []}
    for path in found["*.png"]:
        pictures[next(start for start in pictures if path.stem.startswith(start))].append(path)
    page = []
    if videos := sorted(found["*.mp4"], key=lambda path: not path.stem.startswith("portrait")):
        page.append(Section("Videos", "With sound where the clip has any.", videos=captioned(videos)))
    if found["run.json"] or found["times.json"]:
        page.append(sections.run_section(found["run.json"], found["times.json"], folder))
    if data := pictures["data"]:
        page.append(Section("The data", "Frames of the clips that were made.", pictures=captioned(data)))
    if found["metrics.csv"]:
        latest = {path.parent: path for path in pictures["step_"]}
        page.append(sections.training_section(found["metrics.csv"], list(latest.values()), folder))
    page += [sections.results_section(read_results(path), path) for path in found["results.json"]]
    if sheets := pictures[""]:
        lead = "One clip each; a row runs from its first to its last frame."
        page.append(Section("Contact sheets", lead, pictures=captioned(sheets)))
    for path in found["sweep.json"]:
        beside = [picture for picture in pictures["sweep_"] if picture.parent == path.parent]
        page.append(sections.sweep_section(read_json(path), path, beside))
    if not page:
        raise UserError(f"{folder}: nothing to report in it ({', '.join(KINDS)})")
    return page


def _files(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern in the folder and below, without hidden ones and clips of datasets."""
    paths = {path: path.relative_to(folder).parts for path in folder.rglob(pattern)}
    return sorted(
        path
        for path, parts in paths.items()
        if not NO_ARTEFACTS & set(parts[:-1]) and not any(part.startswith(".") for part in parts)
    )
