"""``ifmdm report``: one self-contained HTML page of what lies in a run, sweep or demo folder.

The page holds everything in itself (pictures, curves, videos), loads nothing and can be sent as one file.
"""

import argparse
import datetime
import logging
from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import UserError
from datamodules.files import require_folder, require_output_folder
from experiments.report_figures import data_uri
from experiments.report_sections import (
    Section,
    captioned,
    results_section,
    run_section,
    sweep_section,
    training_section,
    video_section,
)
from experiments.results import check_results, read_json, write_whole
from experiments.version import __version__

MAX_PICTURE_BYTES = 3_000_000
RANKING = "the results on this page are of different protocol hashes: they may not be ranked together"
TEMPLATE_FOLDER = Path(__file__).resolve().parent / "templates"

log = logging.getLogger(__name__)


def collect_sections(folder: Path) -> list[Section]:
    """Sections of what lies in a folder: run records, metrics.csv, results.json, sweep.json, *.png, *.mp4.

    Raises:
        UserError: The folder is missing or holds nothing of these.
    """
    require_folder(folder, "a run, an evaluation, a sweep or a demo")
    kinds = ("run.json", "times.json", "metrics.csv", "results.json", "sweep.json", "*.png", "*.mp4")
    found = {kind: _files(folder, kind) for kind in kinds}
    pictures = _latest_samples(found["*.png"])
    data = [path for path in pictures if path.stem.startswith("data")]
    sweep = [path for path in pictures if path.stem.startswith("sweep")]
    sections = []
    if found["run.json"] or found["times.json"]:
        sections.append(run_section(found["run.json"], found["times.json"], folder))
    if data:
        sections.append(Section("The data", "Frames of the clips that were made.", pictures=captioned(data)))
    if found["metrics.csv"]:
        samples = [path for path in pictures if path.stem.startswith("step_")]
        sections.append(training_section(found["metrics.csv"], samples, folder))
    sections += [
        results_section(check_results(read_json(path), str(path)), path) for path in found["results.json"]
    ]
    sheets = [path for path in pictures if not path.stem.startswith(("data", "sweep", "step_"))]
    if sheets:
        lead = "One clip each; a row runs from its first to its last frame."
        sections.append(Section("Contact sheets", lead, pictures=captioned(sheets)))
    sections += [sweep_section(read_json(path), path, _beside(path, sweep)) for path in found["sweep.json"]]
    if found["*.mp4"]:
        sections.insert(
            0, video_section(sorted(found["*.mp4"], key=lambda path: path.stem.startswith("sweep")))
        )
    if not sections:
        raise UserError(
            f"{folder}: nothing to report in it (results.json, sweep.json, run.json, metrics.csv, png, mp4)"
        )
    return sections


def _files(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern in the folder and below; clips of datasets and hidden files are no artefacts."""
    return sorted(
        path
        for path in folder.rglob(pattern)
        if not {"clips", "latents", "frames"} & set(path.relative_to(folder).parts[:-1])
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _latest_samples(pictures: Sequence[Path]) -> list[Path]:
    """The pictures, of a folder with samples of many training steps the last ones alone."""
    last = {path.parent: path for path in sorted(pictures) if path.stem.startswith("step_")}
    return [
        path for path in pictures if path == last.get(path.parent, path) or not path.stem.startswith("step_")
    ]


def _beside(path: Path, pictures: Sequence[Path]) -> list[Path]:
    """Pictures of the folder of ``path``, without the plot that the page draws itself."""
    return [picture for picture in pictures if picture.parent == path.parent and picture.stem != "sweep"]


def write_report(
    folder: Path | Sequence[Path],
    output: Path | None = None,
    title: str = "Talking-head experiment",
    lead: str = "",
    extra: Sequence[Section] = (),
) -> Path:
    """Write one self-contained HTML page.

    Args:
        folder: Folder with artefacts, or several.
        output: The page; None: ``report.html`` in the (first) folder.
        title: Heading of the page.
        lead: A sentence under it.
        extra: Sections put in front of those that the folders yield.

    Returns:
        Path of the page.

    Raises:
        UserError: A folder is missing or holds nothing to report, or a file in it is damaged.
    """
    folders = [Path(folder)] if isinstance(folder, str | Path) else [Path(item) for item in folder]
    sections = list(extra)
    for one in folders:
        part = collect_sections(one)
        if len(folders) > 1:
            for section in part:
                section.title = f"{section.title} ({one.name})"
        sections += part
    _warn_of_ranking(sections)
    return write_page(sections, output or folders[0] / "report.html", title, lead)


def _warn_of_ranking(sections: Sequence[Section]) -> None:
    """Say at every evaluation of a page that holds some of different protocols that they may not be ranked."""
    judged = [section for section in sections if "protocol" in section.facts]
    if len({section.facts["protocol"] for section in judged}) > 1:
        for section in judged:
            section.notes.insert(0, RANKING)


def write_page(sections: Sequence[Section], output: Path, title: str, lead: str = "") -> Path:
    """Write sections as one self-contained HTML page; pictures that are too large are named, not embedded."""
    from jinja2 import Environment, FileSystemLoader

    for section in sections:
        large = [path for path, _ in section.pictures if path.stat().st_size > MAX_PICTURE_BYTES]
        section.notes += [f"not embedded ({path.stat().st_size / 1e6:.1f} MB): {path.name}" for path in large]
        section.pictures = [(path, caption) for path, caption in section.pictures if path not in large]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("report.html").render(
        title=title,
        lead=lead,
        sections=sections,
        data_uri=data_uri,
        made=f"{datetime.date.today():%d %B %Y}",
        version=__version__,
    )
    return write_whole(output, text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm report``."""
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
    if args.output is not None:
        require_output_folder(args.output.parent)
    log.info("report: %s", write_report(args.runs, args.output, args.title))
    return 0
