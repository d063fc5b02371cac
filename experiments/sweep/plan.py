"""What a sweep file asks for: series of one setting over its values, and single points beside them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from datamodules.errors import UserError

KEYS = ("axis", "values", "reference", "series", "points", "following", "judges")
OWN = ("axis", "values", "reference")
"""Words of a series that say another setting than the file's; all its other words are options."""
JUDGES = ("all", "motion")


@dataclasses.dataclass(frozen=True)
class Point:
    """One way of generating, at which every clip is rendered and measured.

    Attributes:
        series: Name of its series, or its own.
        value: Of the swept setting; None for a point without one.
        options: GenerationOptions, but the seed.
    """

    series: str
    value: float | None
    options: Any

    @property
    def label(self) -> str:
        """As it is called in pictures."""
        return self.series if self.value is None else f"{self.series} {self.value:g}"


@dataclasses.dataclass(frozen=True)
class Series:
    """Points that differ in one setting, by rising value.

    Attributes:
        name: In tables and plots.
        axis: The options that take the value.
        points: In the order of their values.
        reference: Value that the others are held against; None: there is none among the values.
    """

    name: str
    axis: tuple[str, ...]
    points: tuple[Point, ...]
    reference: float | None


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """A sweep.

    Attributes:
        series: Several settings or ways of scaling.
        points: Single ones.
        following: Whether requested statistics are held against realised ones.
        judges: ``all`` that are there, or of ``motion`` alone, which is faster.
    """

    series: tuple[Series, ...]
    points: tuple[Point, ...]
    following: bool = False
    judges: str = "all"

    @property
    def all(self) -> tuple[Point, ...]:
        """All points, those of series first."""
        return (*(point for one in self.series for point in one.points), *self.points)


def with_options(options: Any, changes: Mapping[str, Any], what: str) -> Any:
    """Options with some of them changed; messages call them ``what``.

    Raises:
        UserError: There is no such option, or its value makes no sense.
    """
    known = [field.name for field in dataclasses.fields(options) if field.name != "seed"]
    if unknown := [name for name in changes if name not in known]:
        raise UserError(f"sweep: {what}: there is no option '{unknown[0]}'; there are: {', '.join(known)}")
    try:
        return dataclasses.replace(options, **changes)
    except TypeError as error:
        raise UserError(f"sweep: {what}: a value is of the wrong type ({error})") from error


def read_plan(config: Mapping[str, Any], options: Any) -> SweepPlan:
    """The plan of a sweep's config, whose points are generated as ``options`` say where they don't say otherwise.

    Raises:
        UserError: A word is unknown or of the wrong type, values are missing, or an option makes no sense.
    """
    if unknown := [key for key in config if key not in KEYS]:
        raise UserError(f"sweep: there is no word '{unknown[0]}'; there are: {', '.join(KEYS)}")
    judges = config.get("judges", "all")
    if judges not in JUDGES:
        raise UserError(f"sweep.judges={judges}: choose one of {', '.join(JUDGES)}")
    told = _maps(config, "series")
    if not told and config.get("axis") is not None:
        told = {" and ".join(_axis(config["axis"])): {}}
    shared = {key: config.get(key) for key in OWN}
    series = tuple(_series(name, {**shared, **own}, options) for name, own in told.items())
    singles = _maps(config, "points")
    points = tuple(Point(name, None, with_options(options, own, name)) for name, own in singles.items())
    if not series and not points:
        raise UserError("sweep: asks for nothing; give an axis with values, or points")
    if both := set(told) & set(singles):
        raise UserError(f"sweep: '{both.pop()}' is the name of a series and of a point; rename one")
    return SweepPlan(series, points, bool(config.get("following")), judges)


def _maps(config: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """A map of maps by name; a name without anything has an empty one."""
    told = config.get(key) or {}
    if not isinstance(told, dict) or not all(isinstance(one, dict | None) for one in told.values()):
        raise UserError(f"sweep.{key}={told}: give names, and for each a map of options")
    return {str(name): one or {} for name, one in told.items()}


def _axis(axis: Any) -> tuple[str, ...]:
    names = axis if isinstance(axis, list) else [axis]
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"sweep.axis={axis}: give the name of an option, or a list of names")
    return tuple(names)


def _series(name: str, told: Mapping[str, Any], options: Any) -> Series:
    axis, values, reference = _axis(told["axis"]), told["values"], told["reference"]
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if values and not numbers:
        raise UserError(f"sweep: {name}: values={values}: of the wrong type, give a list of numbers")
    if not values or len(set(values)) < len(values):
        raise UserError(
            f"sweep: {name}: values={values}: give a list of numbers, e.g. [0,0.5,1,2], none twice"
        )
    rest = {key: value for key, value in told.items() if key not in OWN}
    points = tuple(
        Point(name, value, with_options(options, {**rest, **dict.fromkeys(axis, value)}, name))
        for value in sorted(values)
    )
    return Series(name, axis, points, reference if reference in values else None)
