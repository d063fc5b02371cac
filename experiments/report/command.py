"""``ifmdm report``: one self-contained HTML page of what lies in a run, sweep or demo folder."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.errors import UserError
from datamodules.files import require_output_folder

if TYPE_CHECKING:
    from experiments.report.page import Section

log = logging.getLogger(__name__)

TITLE = "Talking-head experiment"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm report``."""
    parser.description = (
        "Write one HTML page of everything in the folders: tables, curves, pictures, videos. "
        "It loads nothing and can be sent as one file."
    )
    what = "folder of a run, an evaluation, a sweep or a demo"
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help=what)
    parser.add_argument("--output", type=Path, help="the page (default: report.html in the first folder)")
    what = "show instead what each direction of a model's motion does (default page: templates.html)"
    parser.add_argument("--templates", type=Path, metavar="MODEL", help=what)
    what = "with --templates: the portrait (default: a photograph that comes along)"
    parser.add_argument("--image", type=Path, help=what)
    parser.add_argument("--title", default=TITLE, help="heading of the page")


def run(args: argparse.Namespace) -> int:
    """Write the page as the command line says."""
    if args.output is not None:
        require_output_folder(args.output.parent)
    if bool(args.runs) == (args.templates is not None):
        raise UserError("report: name folders, or one model by --templates")
    if args.image is not None and args.templates is None:
        raise UserError("report: --image goes with --templates")
    if args.templates is not None:
        from experiments.report.templates import write_templates

        log.info("report: %s", write_templates(args.templates, args.image, args.output))
        return 0
    log.info("report: %s", write_report(args.runs, args.output, args.title))
    return 0


def write_report(
    folders: Sequence[Path],
    output: Path | None = None,
    title: str = TITLE,
    verdict: "Section | None" = None,
) -> Path:
    """Write one self-contained HTML page of the artefacts in some folders; returns its path.

    By default ``report.html`` in the first folder. ``verdict`` is put behind the first section, the videos.

    Raises:
        UserError: A folder is missing or holds nothing to report, or a file in it is damaged.
    """
    from experiments.report.page import write_page
    from experiments.report.sections import collect_sections

    sections: list[Section] = []
    for folder in folders:
        for section in collect_sections(folder):
            section.title += f" ({folder.name})" if len(folders) > 1 else ""
            sections.append(section)
    if verdict is not None:
        sections.insert(1, verdict)
    judged = [section for section in sections if "protocol" in section.facts]
    if len({section.facts["protocol"] for section in judged}) > 1:
        note = "the results on this page are of different protocol hashes: they may not be ranked together"
        for section in judged:
            section.notes.insert(0, note)
    return write_page(sections, output or folders[0] / "report.html", title)
