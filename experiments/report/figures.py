"""Curves of the report, as SVG."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INK = "#2b6cb0"
SECOND_INK = "#c05621"
ROW_COLORS = {
    "real": "#718096",
    "codec": "#a0aec0",
    "autoencoder": "#2f855a",
    "generated": INK,
    "swapped": SECOND_INK,
}
MAX_LOG_BYTES = 64 * 2**20
MAX_CURVES = 200


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of a size in inches that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def figure_svg(figure: Any) -> str:
    """A figure as an SVG element that scales with the page."""
    text = saved_figure(figure, format="svg", metadata={"Date": None}).decode()
    width, height = figure.get_size_inches()
    size = f'viewBox="0 0 {72 * width:g} {72 * height:g}" style="width:100%;max-width:{width:g}in"'
    head = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {size}>'
    return re.sub(r"^.*?<svg[^>]*>", head, text, count=1, flags=re.DOTALL)


def saved_figure(figure: Any, **options: Any) -> bytes:
    """The figure as a file, its panels open at the top and the right; ``options`` are those of matplotlib's savefig."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    return buffer.getvalue()


def read_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Curves of a ``metrics.csv`` that Lightning's CSVLogger wrote: log name -> (step, value) points.

    ValueError where it is over 64 MB or has more than 200 curves.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    if path.stat().st_size > MAX_LOG_BYTES:
        raise ValueError(f"over {MAX_LOG_BYTES // 2**20} MB")
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        if len(reader.fieldnames or ()) > MAX_CURVES:
            raise ValueError(f"more than {MAX_CURVES} curves")
        for line, row in enumerate(reader):
            step = _number(row.pop("step", None))
            for name, text in row.items():
                if name != "epoch" and (value := _number(text)) is not None:
                    points = curves.setdefault(str(name).removesuffix("_step").removesuffix("_epoch"), [])
                    points.append((line if step is None else step, value))
    return {_plain(name): points for name, points in curves.items() if len(points) > 1}


def _plain(label: str) -> str:
    """A stranger's label, which matplotlib shall not take for a formula."""
    return label.replace("$", "")


def _number(text: Any) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def training_figure(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Training curves: one panel for each measure, training and validation in it together."""
    panels: dict[str, list[str]] = {}
    for name in sorted(curves):
        if not name.startswith(("lr-", "lr/")):
            panels.setdefault(name.split("/", 1)[-1], []).append(name)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(3.6 * columns, 2.4 * lines)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            color, width = (SECOND_INK, 1.4) if name.startswith(("val/", "test/")) else (INK, 0.9)
            axis.plot(*zip(*curves[name], strict=True), label=name.split("/", 1)[0], color=color, lw=width)
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        values = [value for name in names for _, value in curves[name]]
        if max(values) > 30 * min(values) > 0:
            axis.set_yscale("log")
        if len(names) > 1:
            axis.legend(fontsize=7, frameon=False)
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return figure_svg(figure)


def lag_figure(curves: Mapping[str, Sequence[float]], titles: Mapping[str, str]) -> str:
    """Lip correlation over the lag, one line a row of the evaluation, with its title."""
    figure = new_figure(6.4, 2.9)
    axis = figure.subplots()
    for row, values in curves.items():
        lags = range(-(len(values) // 2), len(values) // 2 + 1)
        axis.plot(lags, values, label=titles.get(row, _plain(row)), color=ROW_COLORS.get(row), lw=1.8)
    axis.axvline(0, color="#999", lw=0.8)
    axis.axhline(0, color="#999", lw=0.8)
    axis.set_xlabel("lag in frames (positive: late)")
    axis.set_ylabel("correlation of lip opening")
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axis.grid(alpha=0.3)
    return figure_svg(figure)
