"""How far a model follows the statistics that it is given: a series of a sweep, block by block of the motion basis."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.sweep.plan import Series
from metrics.evaluation.intervals import INTERVALS, IntervalSettings, cluster_bootstrap
from metrics.following import block_std, cross_talk, fit_line, in_range, saturation

SPACES = ("sampled", "rendered")
"""Where the realised std is: in the sampled motion, and in the rendered frames encoded again."""
Stds = Mapping[str, np.ndarray]
"""``requested``, ``sampled`` and ``rendered`` std, ``(S, W, M)`` of one clip or ``(N, M)`` of all windows."""


def scaled_blocks(one: Series, blocks: Mapping[str, slice], by_construction: bool = True) -> list[str]:
    """Blocks whose requested std follows the value of a series; none where the series scales no statistics.

    Eyes are asked for by models alone whose windows have their statistics by construction: others sample them without any.
    """
    head = [name for name in blocks if name not in ("mouth", "eyes")]
    follow = {"intensity": head, "mouth_intensity": ["mouth"], "eyes_intensity": ["eyes"] * by_construction}
    return [name for axis in one.axis for name in follow.get(axis, ()) if name in blocks]


def following_of(
    stds: Mapping[float, Sequence[Stds]],
    people: Sequence[str],
    blocks: Mapping[str, slice],
    scaled: Sequence[str],
    settings: IntervalSettings = INTERVALS,
) -> dict[str, Any]:
    """What one series says.

    Args:
        stds: Value, a factor on the estimated std -> std of each clip's windows.
        people: Identity of each clip.
        blocks: Of the basis.
        scaled: Those that the value scales; of the others the cross-talk is told.
        settings: Of intervals.

    Returns:
        ``blocks``: space -> block -> ``slope`` with its interval by identity, ``offset``, ``r2``, ``saturation``, and the
        ``means`` at each value; ``dimensions``: space -> the same of every dimension, without interval and means;
        ``cross_talk``: space -> block -> relative change of its std from value 1 to 2.
    """
    windows = {value: _all_windows(clips) for value, clips in stds.items()}
    counts = [one["requested"].shape[0] * one["requested"].shape[1] for one in next(iter(stds.values()))]
    owners = np.repeat(np.asarray(people, dtype=object), counts)
    found: dict[str, Any] = {"scaled": list(scaled), "blocks": {}, "dimensions": {}, "cross_talk": {}}
    for space in SPACES:
        lines, single = {}, []
        for name in scaled:
            part = blocks[name]
            lines[name] = _line(windows, part, space, owners, settings) | {
                "means": _means(windows, part, space)
            }
            for place in range(*part.indices(windows[next(iter(windows))]["requested"].shape[1])):
                line = _line(windows, slice(place, place + 1), space)
                single.append({"dimension": place, "block": name, **line})
        found["blocks"][space], found["dimensions"][space] = lines, single
        if {1, 2} <= set(windows):
            one, two = ({b: block_std(windows[v][space], part) for b, part in blocks.items()} for v in (1, 2))
            found["cross_talk"][space] = {b: c for b, c in cross_talk(one, two).items() if b not in scaled}
    return found


def _all_windows(clips: Sequence[Stds]) -> dict[str, np.ndarray]:
    return {
        key: np.concatenate([one[key].reshape(-1, one[key].shape[-1]) for one in clips]) for key in clips[0]
    }


def _line(
    windows: Mapping[float, Stds],
    part: slice,
    space: str,
    owners: np.ndarray | None = None,
    settings: IntervalSettings = INTERVALS,
) -> dict[str, Any]:
    """Slope, offset, R2 and saturation of one part of the basis; with ``owners`` of the windows the slope's interval."""
    kept = [value for value in windows if in_range(np.array([value]))[0]]
    if not kept:
        return dict.fromkeys(("slope", "offset", "r2", "saturation"))
    # (V, N) each: the same window in every row
    requested, realised = (
        np.array([block_std(windows[value][key], part) for value in kept]) for key in ("requested", space)
    )
    line, slope = fit_line(requested, realised), None
    if owners is not None:

        def drawn_slope(drawn: np.ndarray) -> float:
            return fit_line(*np.split(drawn.T, 2)).slope

        rows = np.concatenate([requested, realised]).T  # (N, 2 V)
        slope = dataclasses.asdict(cluster_bootstrap(rows, list(owners), drawn_slope, settings))
    told = {**dataclasses.asdict(line), "saturation": saturation(np.array(kept), requested, realised)}
    return told | ({"slope": slope} if slope else {})


def _means(windows: Mapping[float, Stds], part: slice, space: str) -> list[dict[str, float]]:
    return [
        {
            "value": value,
            "requested": float(block_std(one["requested"], part).mean()),
            "realised": float(block_std(one[space], part).mean()),
        }
        for value, one in windows.items()
    ]
