"""``ifmdm report``: one self-contained HTML page of what lies in a run, sweep or demo folder."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.report.page import Section

log = logging.getLogger(__name__)

KINDS = ("run.json", "times.json", "metrics.csv", "results.json", "sweep.json", "*.png", "*.mp4")
NO_ARTEFACTS = {"clips", "latents", "frames"}
"""Folders of a dataset, whose files are not for the page."""
RANKING = "the results on this page are of different protocol hashes: they may not be ranked together"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm report``."""
    parser.description = (
        "Write one HTML page of everything in the folders: tables, curves, pictures, videos. "
        "It loads nothing and can be sent as one file."
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, an evaluation, a sweep or a demo"
    )
    parser.add_argument("--output", type=Path, help="the page (default: report.html in the first folder)")
    parser.add_argument("--title", default="Talking-head experiment", help="heading of the page")


def run(args: argparse.Namespace) -> int:
    """Write the page.

    Raises:
        UserError: Nothing to report in a folder, or the page can't be written.
    """
    from datamodules.files import require_output_folder

    if args.output is not None:
        require_output_folder(args.output.parent)
    log.info("report: %s", write_report(args.runs, args.output, args.title))
    return 0


def write_report(
    folders: Sequence[Path],
    output: Path | None = None,
    title: str = "Talking-head experiment",
    lead: str = "",
    verdict: "Section | None" = None,
) -> Path:
    """Write one self-contained HTML page.

    Args:
        folders: With artefacts.
        output: The page; None: ``report.html`` in the first folder.
        title: Heading of the page.
        lead: A sentence under it.
        verdict: A section that is put behind the first one, the videos.

    Returns:
        Path of the page.

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
        for section in judged:
            section.notes.insert(0, RANKING)
    return write_page(sections, output or folders[0] / "report.html", title, lead)


def collect_sections(folder: Path) -> "list[Section]":
    """Sections of the artefacts in a folder: videos first, then how they were made, then how they were judged.

    Raises:
        UserError: The folder is missing or holds none.
    """
    from datamodules.errors import UserError
    from datamodules.files import require_folder
    from experiments.report import sections
    from experiments.report.page import Section, captioned
    from experiments.results import check_results, read_json

    require_folder(folder, "a run, an evaluation, a sweep or a demo")
    found = {kind: _files(folder, kind) for kind in KINDS}
    pictures = found["*.png"]
    samples = {path.parent: path for path in pictures if path.stem.startswith("step_")}  # the latest of each
    data = [path for path in pictures if path.stem.startswith("data")]
    sweep = [path for path in pictures if path.stem.startswith("sweep_")]
    sheets = [path for path in pictures if not path.stem.startswith(("data", "sweep", "step_"))]
    page = []
    if videos := sorted(found["*.mp4"], key=lambda path: not path.stem.startswith("portrait")):
        page.append(Section("Videos", "With sound where the clip has any.", videos=captioned(videos)))
    if found["run.json"] or found["times.json"]:
        page.append(sections.run_section(found["run.json"], found["times.json"], folder))
    if data:
        page.append(Section("The data", "Frames of the clips that were made.", pictures=captioned(data)))
    if found["metrics.csv"]:
        page.append(sections.training_section(found["metrics.csv"], list(samples.values()), folder))
    for path in found["results.json"]:
        page.append(sections.results_section(check_results(read_json(path), str(path)), path))
    if sheets:
        lead = "One clip each; a row runs from its first to its last frame."
        page.append(Section("Contact sheets", lead, pictures=captioned(sheets)))
    for path in found["sweep.json"]:
        beside = [picture for picture in sweep if picture.parent == path.parent]
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
