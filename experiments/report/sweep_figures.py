"""Plots of a sweep: each measure over the setting, quality against measured motion, requested against realised std."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.figures import new_figure, saved_figure
from experiments.report.tables import measures_among
from metrics.evaluation.registry import MEASURES, Measure

COLORS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096")
FRONT = "#1a202c"
UNPLOTTED = ("lip_lag", "av_lag", "av_offset")
Row = Mapping[str, Any]


def sweep_rows(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a sweep.json, those of older versions as ones of a single series over the intensity.

    Raises:
        KeyError: A row has neither a value nor an intensity.
    """
    old = {"series": "intensity"}
    return [
        dict(row) if "series" in row else {**old, "value": row["intensity"], **row} for row in sweep["rows"]
    ]


def axis_name(sweep: Mapping[str, Any], series: str) -> str:
    """What the values of a series are of, in words."""
    return " and ".join(sweep.get("axes", {}).get(series, ["intensity"])).replace("_", " ")


def _measures(rows: Sequence[Row], protocol: Mapping[str, Any]) -> list[Measure]:
    """Measures that some row has a value of."""
    known = {
        name
        for row in rows
        for name, one in row.items()
        if isinstance(one, Mapping) and one.get("value") is not None
    }
    return [one for one in measures_among(known, protocol) if one.name in known and one.name not in UNPLOTTED]


def _label(measure: Measure) -> str:
    return f"{measure.title} ({measure.unit})" if measure.unit else measure.title


def _scale(measure: Measure) -> float:
    return 100.0 if measure.unit == "%" else 1.0


def _panels(count: int, width: float = 3.4, height: float = 2.6) -> tuple[Any, list[Any]]:
    """A figure with so many panels, at most four beside each other."""
    columns = 3 if count in (5, 6) else min(4, count)
    lines = -(-count // columns)
    figure = new_figure(width * columns, height * lines)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=7)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _marks(axis: Any) -> int:
    return len(axis.get_legend_handles_labels()[1])


def _legend(figure: Any, axis: Any) -> None:
    """One legend below all panels, with the marks of one of them."""
    handles, labels = axis.get_legend_handles_labels()
    if len(labels) > 1:
        columns = max(1, min(len(labels), int(figure.get_size_inches()[0] / 2.2)))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def curves_figure(sweep: Mapping[str, Any], setting: str) -> Any:
    """Every measure over one setting, a line a series, with intervals; dashed: the real clips. None: no such series."""
    rows = [
        row
        for row in sweep_rows(sweep)
        if row["value"] is not None and axis_name(sweep, row["series"]) == setting
    ]
    names = list(dict.fromkeys(row["series"] for row in rows))
    measures = _measures(rows, sweep.get("protocol") or {"name": ""})
    if not measures:
        return None
    figure, axes = _panels(len(measures))
    for axis, measure in zip(axes, measures, strict=True):
        scale = _scale(measure)
        for name, color in zip(names, _cycle(names), strict=True):
            known = [
                (row["value"], row[measure.name])
                for row in rows
                if row["series"] == name and measure.name in row
            ]
            known = [(value, one) for value, one in known if one["value"] is not None]
            line = [scale * one["value"] for _, one in known]
            axis.plot([value for value, _ in known], line, "o-", color=color, ms=3, lw=1.4, label=name)
            sure = [
                (value, scale * one["low"], scale * one["high"])
                for value, one in known
                if one["low"] is not None
            ]
            if sure:
                axis.fill_between(*zip(*sure, strict=True), alpha=0.15, color=color, lw=0)
        real = sweep.get("real", {}).get(measure.name, {}).get("value")
        if real is not None and measure.name not in ("sharpness", "sharpness_mouth", "sharpness_eyes"):
            axis.axhline(scale * real, color="#555", lw=0.9, ls="--", label="real clips")
        axis.set_title(_label(measure), fontsize=8)
        axis.set_xlabel(setting, fontsize=8)
    _legend(figure, max(axes, key=_marks))
    return figure


def trade_off_figure(sweep: Mapping[str, Any]) -> Any:
    """Qualities against measured motion: series as lines, points by name, the front dashed. None: no quality."""
    names = [name for name in sweep.get("trade_off", {}) if name in MEASURES]
    if not names:
        return None
    rows, series = sweep_rows(sweep), list(sweep.get("axes", {}))
    colors = dict(zip(series, _cycle(series), strict=True))
    known_measures = {one.name: one for one in measures_among(names, sweep.get("protocol") or {"name": ""})}
    figure, axes = _panels(len(names), width=4.4, height=3.6)
    for axis, name in zip(axes, names, strict=True):
        measure, scale = known_measures[name], _scale(known_measures[name])
        motion = MEASURES[sweep["trade_off"][name].get("motion", "head_motion")]
        places = {
            (row["series"], row["value"]): (row[motion.name]["value"], scale * row[name]["value"])
            for row in rows
            if all(row.get(key, {}).get("value") is not None for key in (motion.name, name))
        }
        for one in series:
            line = [(value, place) for (owner, value), place in places.items() if owner == one]
            if not line:
                continue
            axis.plot(
                *zip(*(place for _, place in line), strict=True),
                "o-",
                color=colors[one],
                ms=3,
                lw=1.2,
                label=one,
            )
            for value, place in (line[0], line[-1]):
                axis.annotate(
                    f"{value:g}",
                    place,
                    fontsize=7,
                    color=colors[one],
                    xytext=(3, 3),
                    textcoords="offset points",
                )
        single: dict[tuple[float, float], list[str]] = {}  # points at the same place share a label
        for (owner, value), place in places.items():
            if value is None:
                single.setdefault(place, []).append(owner)
        for count, (place, owners) in enumerate(single.items()):
            axis.plot(*place, "D", color="#555", ms=4)
            shift = ((4, -9), (4, 5), (4, -17), (4, 13))[count % 4]
            axis.annotate(
                ", ".join(owners), place, fontsize=7, color="#333", xytext=shift, textcoords="offset points"
            )
        axis.margins(x=0.08, y=0.12)
        front = [(one["series"], one["value"]) for one in sweep["trade_off"][name]["front"]]
        shown = [places[one] for one in front if one in places]
        if shown:
            axis.plot(*zip(*shown, strict=True), "--", color=FRONT, lw=1, alpha=0.7, label="front", zorder=0)
        better = "higher" if sweep["trade_off"][name]["higher_is_better"] else "lower"
        axis.set_title(f"{_label(measure)}; {better} is better", fontsize=8)
        axis.set_xlabel(f"measured {motion.title.lower()} ({motion.unit})", fontsize=8)
    _legend(figure, axes[0])
    return figure


SPACES = {"sampled": "o-", "rendered": "s--"}
"""Where the std of motion is read, and how it is drawn."""


def following_figure(sweep: Mapping[str, Any]) -> Any:
    """Requested against realised std by block, means over windows at each value; dotted: exact.

    None: nothing was asked, or no window was long enough to tell.
    """
    found = sweep.get("following") or []
    blocks = list(dict.fromkeys(block for one in found for block in one["scaled"]))
    if not any(_followed(one, space, block) for one in found for space in SPACES for block in one["scaled"]):
        return None
    figure, axes = _panels(len(blocks), height=3.2)
    names = [one["series"] for one in found]
    for axis, block in zip(axes, blocks, strict=True):
        most = 0.0
        for one, color in zip(found, _cycle(names), strict=True):
            for space, style in SPACES.items():
                if not (points := _followed(one, space, block)):
                    continue
                most = max(most, *(max(point) for point in points))
                axis.plot(
                    *zip(*points, strict=True),
                    style,
                    color=color,
                    ms=3,
                    lw=1.2,
                    label=f"{one['series']}, {space}",
                )
        axis.plot([0, most], [0, most], ":", color="#555", lw=1, label="as requested")
        axis.set_title(block, fontsize=9)
        axis.set_xlabel("requested std (basis)", fontsize=8)
        axis.set_ylabel("realised std (basis)", fontsize=8)
    _legend(figure, max(axes, key=_marks))
    return figure


def _followed(one: Mapping[str, Any], space: str, block: str) -> list[tuple[float, float]]:
    """Requested and realised std of a block in a series, where windows tell them; none of a block that it leaves alone."""
    means = one["blocks"][space][block]["means"] if block in one["scaled"] else []
    points = [(mean["requested"], mean["realised"]) for mean in means]
    return [point for point in points if None not in point]


def sweep_figures(sweep: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """The plots that a sweep has: name -> figure and caption."""
    settings = dict.fromkeys(
        axis_name(sweep, row["series"]) for row in sweep_rows(sweep) if row["value"] is not None
    )
    found = {f"curves_{one.replace(' ', '_')}": (curves_figure(sweep, one), _CURVES) for one in settings}
    found["trade_off"] = (trade_off_figure(sweep), _TRADE_OFF)
    found["following"] = (following_figure(sweep), _FOLLOWING)
    return {name: one for name, one in found.items() if one[0] is not None}


def sweep_pictures(sweep: Mapping[str, Any]) -> dict[str, bytes]:
    """The plots as PNG files by name."""
    return {
        f"sweep_plot_{name}.png": saved_figure(one, format="png", dpi=130)
        for name, (one, _) in sweep_figures(sweep).items()
    }


def _cycle(names: Sequence[str]) -> list[str]:
    return [COLORS[place % len(COLORS)] for place in range(len(names))]


_CURVES = "Mean over clips; shaded: 95 % interval by identity; dashed: real clips"
_TRADE_OFF = (
    "Quality against the motion that was measured; the dashed line joins the points that no other beats"
)
_FOLLOWING = "Requested against realised std of windows, by block of the motion basis"
