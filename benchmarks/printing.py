"""How the benchmarks speak: tables, and one line for what is wrong."""

import sys
from collections.abc import Callable

from datamodules.errors import UserError


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table with its first column to the left and all others to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def one_line_errors(main: Callable[[], None]) -> None:
    """Runs a benchmark; wrong input ends with one line on standard error and status 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
