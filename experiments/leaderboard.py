"""``ifmdm leaderboard``: ranks results of evaluations, measure by measure, as Markdown, CSV or one HTML page."""

import argparse
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.errors import UserError
from datamodules.files import file_inside, require_file, require_output_folder
from experiments.results import RESULTS, read_results, write_whole

if TYPE_CHECKING:
    from experiments.report.ranking import Entry

log = logging.getLogger(__name__)
FORMATS = (".md", ".html", ".csv")
TITLE = "Leaderboard"
MOST_NAME = 60
"""Letters of a method's name that are shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm leaderboard``."""
    parser.description = (
        "Rank methods by the results of 'ifmdm evaluate', measure by measure where the measure's hash and the data agree. "
        "Without --output Markdown is printed."
    )
    what = "results.json of an evaluation, or a folder that holds some"
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help=what)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"{', '.join(FORMATS)}: which form it has"
    )
    parser.add_argument("--title", default=TITLE, help="heading")


def run(args: argparse.Namespace) -> int:
    """Rank as the command line says.

    Raises:
        UserError: No results there, one that is damaged, or an output of another form.
    """
    suffix = ".md" if args.output is None else args.output.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{args.output}: a leaderboard is written as {', '.join(FORMATS)}; name it so")
    if args.output is not None:
        require_output_folder(args.output.parent)
    entries = read_entries(args.results)
    from experiments.report.leaderboard import csv_text, markdown_text, write_html
    from experiments.report.ranking import make_boards

    boards = make_boards(entries)
    if suffix == ".html":
        write_html(boards, args.output, args.title)
    else:
        text = csv_text(boards) if suffix == ".csv" else markdown_text(boards, args.title)
        if args.output is None:
            print(text, end="")
            return 0
        write_whole(args.output, text)
    log.info("leaderboard of %d methods: %s", len(entries), args.output)
    return 0


def read_entries(places: Sequence[Path]) -> "list[Entry]":
    """The results that lie at some places, each once; methods of one name are told apart by their folders, else numbers.

    Raises:
        UserError: A place holds no results, or some that are not of our form.
    """
    from experiments.report.ranking import Entry

    found: dict[Path, None] = {}
    for place in places:
        paths = _results_in(place)
        if not paths:
            raise UserError(f"{place}: holds no {RESULTS} of 'ifmdm evaluate'; name the file or its folder")
        found |= dict.fromkeys(path.resolve() for path in paths)
    read = [(path.parent, _checked(path)) for path in found]
    names = [_name(results["method"]) for _, results in read]
    names = [
        f"{name} ({_name(folder.name)})" if names.count(name) > 1 else name
        for name, (folder, _) in zip(names, read, strict=True)
    ]
    names = [
        f"{name} {names[: place + 1].count(name)}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    return [Entry(name, results, folder) for name, (folder, results) in zip(names, read, strict=True)]


def _name(text: str) -> str:
    """A stranger's name as it is shown: one line of printable letters."""
    plain = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return plain[:MOST_NAME] or "without a name"


def _results_in(place: Path) -> list[Path]:
    """The file itself, or those of a folder and below it, no link that leads out of it."""
    if not place.is_dir():
        return [require_file(place, "results")]
    paths = []
    for path in sorted(place.rglob(RESULTS)):
        inner = path.relative_to(place)
        if not any(part.startswith(".") for part in inner.parts):
            try:
                paths.append(file_inside(place, str(inner)))
            except UserError as error:
                log.warning("left out: %s", error)
    return paths


def _checked(path: Path) -> dict:
    """Results whose numbers can be compared.

    Raises:
        UserError: They are of another form.
    """
    from experiments.report.sections import of_our_form

    results = read_results(path)
    with of_our_form(path):
        protocol = results["protocol"]
        for name in ("name", "data"):
            if not isinstance(protocol[name], str):
                raise TypeError(f"protocol.{name} is no text")
        protocol["measures"] = dict(protocol["measures"])
        dict(protocol.get("settings") or {}).items()
        dict((results["run"] or {}).get("judges") or {}).items()
        for interval in results["metrics"].values():
            _check_numbers(interval, ("value", "low", "high", "n"))
        for clip in results["clips"]:
            if not isinstance(clip["clip"], str) or not isinstance(clip["identity"], str):
                raise TypeError("a clip without name and identity")
            _check_numbers(clip, [name for name in clip if name not in ("clip", "identity")])
        if not results["clips"]:
            raise ValueError("no clips")
    return results


def _check_numbers(values: dict, names: Sequence[str]) -> None:
    for name in names:
        value = values[name]
        if value is not None and (isinstance(value, bool) or not math.isfinite(value)):
            raise ValueError(f"{name} is no number")
