"""Leaderboards as Markdown, CSV and one HTML page: all measures side by side, then one after the other."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from datamodules.errors import UserError
from datamodules.files import file_inside
from experiments.report.page import MAX_VIDEOS, Section, Table, write_page
from experiments.report.ranking import OWN_ROWS, SHARED_ROWS, Board, Entry, Line, Ranking, row_title
from experiments.report.tables import Interval, counted, interval, literal, markdown_table, number

HERE = Path(__file__).parent
PUBLISHED = HERE / "published_numbers.csv"
PUBLISHED_NOTE = (
    "As their sources print them; never ranked. One method has FID 71.95, 22.06 and 21.58 in three papers: compare "
    "inside one source only."
)
VIDEO_PLACES = ("gallery", "videos", "")
"""Folders beside results.json in which videos are looked for."""
OVERVIEW_ROWS = (*SHARED_ROWS, "autoencoder")
"""Marked rows that stand in the table of all measures; the others stand with their measures."""
_BAR, _HIGH = 150, 12  # pixels
_INKS = ("#2b6cb0", "#b9bec7")
CSV_HEAD = (
    "board", "data", "measure", "unit", "better", "row", "method", "value", "low", "high", "n", "rank", "behind_best",
    "behind_low", "behind_high", "remark",
)  # fmt: skip


class Cell(NamedTuple):
    """A cell of a table: what it shows and what it is sorted by."""

    text: str
    value: float | None = None
    picture: Markup = Markup("")
    marked: bool = False  # of a ceiling or floor

    def html(self) -> str:
        """As the page shows it."""
        told = (
            Markup("<i class=marked>{}</i>").format(self.text)
            if self.marked
            else Markup("{}").format(self.text)
        )
        if self.value is not None:
            told = Markup('<data value="{:.9g}">{}</data>').format(self.value, told)
        return self.picture + told


Rows = list[list[Cell]]


def overview(board: Board) -> tuple[list[str], Rows]:
    """Heads and rows of all measures side by side: methods by their mean rank, then ceilings and floors."""
    shared, means = board.mean_ranks()
    head = ["method", *(_head(one) for one in board.rankings), *(["mean rank"] if shared else [])]
    rows = []
    for entry in sorted(board.entries, key=lambda entry: means.get(entry.name, 0.0)):
        cells = [Cell(entry.name)]
        for ranking in board.rankings:
            line = next(line for line in ranking.lines if line.entry is entry)
            cells.append(Cell(_ranked(line, ranking), line.interval["value"]))
        cells += [Cell(f"{means[entry.name]:.1f}", means[entry.name])] if shared else []
        rows.append(cells)
    for key in (one for one in _marked_keys(board) if one[0] in OVERVIEW_ROWS):
        cells = [Cell(row_title(*key), marked=True)]
        for ranking in board.rankings:
            found = ranking.marked.get(key)
            text = number(found["value"], ranking.measure.unit, bare=True) if found else "–"
            cells.append(Cell(text, found["value"] if found else None, marked=True))
        rows.append(cells + ([Cell("–", marked=True)] if shared else []))
    return head, rows


def _head(ranking: Ranking) -> str:
    measure = ranking.measure
    near = "" if ranking.target is None else f" ≈ {number(ranking.target, measure.unit, bare=True)}"
    better = {"higher": " ↑", "lower": " ↓"}.get(measure.better, near)
    return f"{measure.title}{f' ({measure.unit})' if measure.unit else ''}{better}"


def _merit(ranking: Ranking) -> str:
    if not ranking.ranks:
        return "not ranked"
    near = f"nearest to {number(ranking.target, ranking.measure.unit)} is best"
    return {"higher": "higher is better", "lower": "lower is better"}.get(ranking.measure.better, near)


def _ranked(line: Line, ranking: Ranking) -> str:
    value = number(line.interval["value"], ranking.measure.unit, bare=True)
    if line.rank is not None:
        return f"{value} (#{line.rank})"
    return f"{value} †" if line.why and ranking.ranks else value


def _marked_keys(board: Board) -> list[tuple[str, str]]:
    known = {key for ranking in board.rankings for key in ranking.marked}
    names = [entry.name for entry in board.entries]
    wanted = [(row, "") for row in (*SHARED_ROWS, *OWN_ROWS)]
    wanted += [(row, name) for name in names for row in OWN_ROWS]
    return [key for key in wanted if key in known]


def ranking_rows(ranking: Ranking) -> tuple[list[str], Rows]:
    """Heads and rows of one measure: methods with their rank and difference to the best, ceilings and floors."""
    unit = ranking.measure.unit
    ends = [
        value
        for one in (*(line.interval for line in ranking.lines), *ranking.marked.values())
        for value in (one["value"], one["low"], one["high"])
        if value is not None
    ]
    limits = (min(0.0, *ends), max(0.0, *ends)) if ends else (0.0, 1.0)
    rows = []
    for line in ranking.lines:
        behind = line.behind
        told = line.why or (interval(behind, unit) if behind else "best" if line.rank is not None else "")
        shown = Cell(interval(line.interval, unit), line.interval["value"], bar(line.interval, limits))
        rank = Cell("–" if line.rank is None else str(line.rank), line.rank)
        clips = Cell(str(line.interval["n"]), line.interval["n"])
        rows.append(
            [rank, Cell(line.entry.name), shown, Cell(told, behind["value"] if behind else None), clips]
        )
    for key, found in ranking.marked.items():
        shown = Cell(interval(found, unit), found["value"], bar(found, limits, marked=True), True)
        rows.append(
            [Cell(""), Cell(row_title(*key), marked=True), shown, Cell(""), Cell(str(found["n"]), found["n"])]
        )
    return ["rank", "method", "value", "behind the best", "clips"], rows


def bar(one: Interval, limits: tuple[float, float], marked: bool = False) -> Markup:
    """A value as a bar from zero with its interval as a line, as SVG; empty without a value."""
    low, high = limits
    if one["value"] is None or high <= low:
        return Markup("")

    def place(value: float) -> float:
        return _BAR * (value - low) / (high - low)

    start, end = sorted((place(0.0), place(one["value"])))
    text = Markup(
        '<svg width="{}" height="{}" style="vertical-align:middle;margin-right:.6rem">'
        '<rect x="{:.1f}" y="1" width="{:.1f}" height="10" fill="{}"/>'
    ).format(_BAR, _HIGH, start, max(1.0, end - start), _INKS[marked])
    if one["low"] is not None and one["high"] is not None:
        line = Markup('<line x1="{:.1f}" x2="{:.1f}" y1="6" y2="6" stroke="#1a202c" stroke-width="1.6"/>')
        text += line.format(place(one["low"]), place(one["high"]))
    return text + Markup("</svg>")


def board_title(board: Board, place: int) -> str:
    """What a board is called."""
    first = board.entries[0]
    told = f"{counted(len(first.clips), 'clip')} of {counted(first.people, 'identity')}"
    return f"{first.protocol['name']}: {told}" if not place else f"Other data {place}: {told}"


def board_lead(board: Board) -> str:
    """How the tables of a board are read."""
    shared, _ = board.mean_ranks()
    lead = (
        "A rank is 1 + the number of methods that are better by more than chance: by a paired bootstrap over identities "
        "where clips have values, else by intervals (95 %) that don't touch. Marked rows are ceilings and floors."
    )
    if board.apart:
        lead = f"Not to be ranked with the first table: {board.apart}. {lead}"
    return lead + (f" Mean rank: over {', '.join(shared)}." if shared else "")


def _footnotes(board: Board) -> list[str]:
    told = [
        f"† {ranking.measure.title}, {line.entry.name}: {line.why}"
        for ranking in board.rankings
        for line in ranking.lines
        if line.why and ranking.ranks
    ]
    return [*board.notes, *told]


def markdown_text(boards: Sequence[Board], title: str) -> str:
    """The boards as Markdown."""
    parts = [f"# {title}"]
    for place, board in enumerate(boards):
        parts += [f"## {board_title(board, place)}", board_lead(board), _markdown_table(*overview(board))]
        parts += ["\n".join(f"- {literal(note)}" for note in _footnotes(board))]
        for ranking in (one for one in board.rankings if one.ranks):
            parts += [f"### {_head(ranking)}", _markdown_table(*ranking_rows(ranking))]
    head, *rows = _published()
    parts += ["## Numbers quoted from papers", PUBLISHED_NOTE]
    parts += [_markdown_table(head, [[Cell(text or "–") for text in row] for row in rows])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(head: Sequence[str], rows: Rows) -> str:
    return markdown_table(
        head, [[f"*{one.text}*" if one.marked else one.text for one in row] for row in rows]
    )


def csv_text(boards: Sequence[Board]) -> str:
    """The boards as CSV: one line for each value, numbers of papers at the end."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for place, board in enumerate(boards):
        for ranking in board.rankings:
            one = ranking.measure
            start = [place + 1, board.entries[0].protocol["data"], one.name, one.unit, one.better]
            for line in ranking.lines:
                behind = [(line.behind or {}).get(key) for key in ("value", "low", "high")]
                ends = [line.rank, *behind, line.why]
                writer.writerow([*start, "method", line.entry.name, *_ends(line.interval), *ends])
            for (row, method), found in ranking.marked.items():
                writer.writerow([*start, row, method, *_ends(found), "", "", "", "", ""])
    head, *rows = _published()
    for source, method, *values in rows:
        for name, value in zip(head[2:], values, strict=True):
            if value:
                quoted = ["", "", name, "", "", "published", method, value, *[""] * 7]
                writer.writerow([*quoted, source])
    return file.getvalue()


def _ends(one: Interval) -> list[float | int | None]:
    return [one[key] for key in ("value", "low", "high", "n")]


def _published() -> list[list[str]]:
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_html(boards: Sequence[Board], output: Path, title: str) -> Path:
    """Write the boards as one HTML page, whose tables are sorted by a click on a head."""
    sections = []
    for place, board in enumerate(boards):
        section = Section(board_title(board, place), board_lead(board), notes=_footnotes(board), links=True)
        section.tables.append(_table("", overview(board)))
        for ranking in board.rankings:
            caption = f"{ranking.measure.title} ({ranking.measure.name}; {_merit(ranking)})"
            section.tables.append(_table(caption, ranking_rows(ranking)))
        section.videos = list(side_by_side(board.entries))
        sections.append(section)
    head, *rows = _published()
    quoted = Table("", head, [[text or "–" for text in row] for row in rows])
    sections.append(Section("Numbers quoted from papers", PUBLISHED_NOTE, tables=[quoted]))
    script = (HERE / "sort_tables.js").read_text(encoding="utf-8")
    return write_page(sections, output, title, script=script)


def _table(caption: str, content: tuple[list[str], Rows]) -> Table:
    head, rows = content
    return Table(caption, head, [[cell.html() for cell in row] for row in rows])


def side_by_side(entries: Sequence[Entry]) -> Iterator[tuple[Path, str]]:
    """Videos of the same clips beside each other, as many as a page has, with their captions."""
    known = [_videos(entry) for entry in entries]
    clips = {clip: None for videos in known for clip in videos}
    having = sum(map(bool, known))
    often = sorted(clips, key=lambda clip: -sum(clip in videos for videos in known))
    for clip in often[: max(1, MAX_VIDEOS // max(1, having))]:
        for entry, videos in zip(entries, known, strict=True):
            if clip in videos:
                yield videos[clip], f"{entry.name}: {clip}"


def _videos(entry: Entry) -> dict[str, Path]:
    """Videos of judged clips that lie in the folder of some results: the method's, or its rows beside each other."""
    found: dict[str, Path] = {}
    for place in VIDEO_PLACES:
        for path in sorted((entry.folder / place).glob("*.mp4")):
            clip = path.stem.removeprefix("rows_")
            if clip in entry.clips:
                try:
                    found.setdefault(clip, file_inside(entry.folder, str(path.relative_to(entry.folder))))
                except UserError:
                    continue  # a link that leads out of the folder
    return found
