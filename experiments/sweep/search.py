"""``ifmdm sweep sweep=search``: a search over options towards an objective of measures, by Optuna's ask and tell."""

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from experiments.report.tables import markdown_table
from experiments.results import plain, require_judged, write_json, write_whole
from experiments.sweep.plan import Point, SweepPlan, with_options
from experiments.sweep.tables import csv_text, value_text

KEYS = ("trials", "seed", "options", "objective")
DATABASE = "search.db"
"""SQLite file of Optuna, in the output folder."""

log = logging.getLogger(__name__)


def check_search(search: Any) -> dict[str, Any]:
    """Return the config of a search if it makes sense.

    Raises:
        UserError: A word is missing or unknown, or a range, choice or measure is none.
    """
    from experiments.sweep.points import MEASURED

    if not isinstance(search, dict) or sorted(search) != sorted(KEYS):
        raise UserError(f"sweep.search: needs {', '.join(KEYS)}, and nothing else")
    if not (type(search["trials"]) is int and search["trials"] >= 1) or type(search["seed"]) is not int:
        raise UserError("sweep.search: trials is a whole number from 1, seed a whole number")
    for key in ("options", "objective"):
        if not isinstance(search[key], dict) or not search[key]:
            raise UserError(f"sweep.search.{key}: give names, and for each a map")
    for name, told in search["options"].items():
        if not _is_range(told) and not _is_choice(told):
            raise UserError(
                f"sweep.search.options.{name}={told}: give {{low: A, high: B}} or {{choices: [A, B]}}"
            )
    for name, told in search["objective"].items():
        if name not in MEASURED:
            raise UserError(
                f"sweep.search.objective: there is no measure '{name}'; there are: {', '.join(MEASURED)}"
            )
        known = isinstance(told, dict) and {"weight"} <= set(told) <= {"weight", "target"}
        if (
            not known
            or not _is_number(told["weight"])
            or not (_is_number(told.get("target", 0)) or told["target"] == "real")
        ):
            raise UserError(
                f"sweep.search.objective.{name}={told}: give {{weight: W}}, and a target, a number or real, if it has one"
            )
    return search


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_range(told: Any) -> bool:
    if not isinstance(told, dict) or set(told) != {"low", "high"}:
        return False
    return _is_number(told["low"]) and _is_number(told["high"]) and bool(told["low"] < told["high"])


def _is_choice(told: Any) -> bool:
    return (
        isinstance(told, dict)
        and set(told) == {"choices"}
        and isinstance(told["choices"], list)
        and bool(told["choices"])
    )


def objective_of(metrics: Mapping[str, Any], objective: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Sum of weighted measures, of intervals by name; None where one has no value.

    A measure with a ``target`` counts by its distance to it: a number, or ``real``, the value under ``NAME_real``, of which
    the distance is a share, so that measures of any unit weigh alike.
    """
    total = 0.0
    for name, told in objective.items():
        value, target = _value(metrics, name), told.get("target")
        if target is not None:
            real = _value(metrics, f"{name}_real") if target == "real" else None
            wanted, unit = (real, real) if target == "real" else (target, 1)
            value = None if value is None or wanted is None or not unit else abs((value - wanted) / unit)
        if value is None:
            return None
        total += told["weight"] * value
    return total


def _value(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics[name].value if name in metrics else None
    return value if value is not None and math.isfinite(value) else None


def import_optuna() -> Any:
    """Optuna, quiet.

    Raises:
        UserError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("sweep=search needs Optuna: pip install 'ifmdm[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_study(path: Path, seed: int) -> Any:
    """The study in an SQLite file, made if there is none; trials that were cut off are asked for again.

    Raises:
        UserError: Optuna is not installed, or the file can't be read.
    """
    optuna = import_optuna()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path}", study_name="search", direction="maximize", load_if_exists=True
        )
        trials = study.get_trials(deepcopy=False)
    except Exception as error:  # of SQLAlchemy, whose errors are many
        raise UserError(f"{path}: can't be read ({' '.join(str(error).split())[:100]}); remove it") from error
    # Another seed each time: the sampler would suggest the first ones again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(trials))
    for trial in trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                study.enqueue_trial(trial.params)
    return study


def suggest(trial: Any, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Values of the searched options for a trial; whole numbers where both ends of a range are."""
    found = {}
    for name, told in options.items():
        if "choices" in told:
            found[name] = trial.suggest_categorical(name, told["choices"])
        elif type(told["low"]) is type(told["high"]) is int:
            found[name] = trial.suggest_int(name, told["low"], told["high"])
        else:
            found[name] = trial.suggest_float(name, told["low"], told["high"])
    return found


def search_main(config: dict[str, Any], output: Path, **parts: Any) -> int:
    """Search as a composed config says; writes sweep.json, sweep.csv and sweep.md of all trials, the best first.

    ``parts`` say how model and judge are loaded, see `set_up_config`.

    Raises:
        UserError: The config makes no sense, Optuna is not installed, the search there is over other options, or no trial
            had a value.
    """
    from experiments.evaluation_setup import set_up_config
    from experiments.sweep.analysis import intervals_of
    from experiments.sweep.points import meter

    search = check_search(config["sweep"]["search"])
    import_optuna()

    def ends(options: Any) -> list[Any]:
        """Options at both ends of every range, all of which a model must be able to follow."""
        found = []
        for name, told in search["options"].items():
            for value in told.get("choices") or (told["low"], told["high"]):
                found.append(with_options(options, {name: value}, "search"))
        return found

    started, evaluated = time.perf_counter(), set_up_config(config, ends, **parts)
    metering = meter(evaluated, SweepPlan((), ()), output)
    study = open_study(output / DATABASE, search["seed"])
    asked = plain({"options": search["options"], "objective": search["objective"], "judged": metering.base})
    if study.user_attrs.get("asked", asked) != asked:
        raise UserError(
            f"{output / DATABASE}: holds a search for something else, other clips or another model; choose another output"
        )
    study.set_user_attr("asked", asked)
    rows: list[dict[str, Any]] = []
    while (done := _finished(study)) < search["trials"]:
        trial = study.ask()
        options = with_options(evaluated.options, suggest(trial, search["options"]), "search")
        metrics, clips = _measured(metering, Point(f"trial {trial.number}", None, options))
        value = objective_of(metrics, search["objective"])
        if value is None:
            require_judged(clips, metering.missing)
            raise UserError(
                f"trial {trial.number}: a measure of the objective has no value; choose others, or more clips"
            )
        study.tell(trial, value)
        log.info("trial %d of %d: %.4f, best %.4f", done + 1, search["trials"], value, study.best_value)
    for trial in sorted(study.get_trials(states=(_complete(),)), key=lambda trial: -trial.value):
        options = with_options(evaluated.options, trial.params, "search")
        metrics, _ = _measured(metering, Point(f"trial {trial.number}", None, options))
        told = {
            "series": f"trial {trial.number}",
            "value": None,
            "objective": trial.value,
            "options": trial.params,
        }
        rows.append({**told, **intervals_of(metrics)})
    result = plain(
        {
            "protocol": metering.record,
            "run": {**evaluated.record(started), "judges": metering.judges.weights()},
            "search": search,
            "axes": {},
            "rows": rows,
            "best": {"options": rows[0]["options"], "objective": rows[0]["objective"]},
            "missing": metering.missing,
        }
    )
    measured = [{k: v for k, v in row.items() if k not in ("objective", "options")} for row in result["rows"]]
    write_whole(output / "sweep.csv", csv_text(measured))
    write_whole(output / "sweep.md", _markdown(result))
    write_json(output / "sweep.json", result)
    log.info("best: %s; written: %s", rows[0]["options"], output / "sweep.md")
    return 0


def _measured(metering: Any, point: Point) -> tuple[dict[str, Any], int]:
    """Measures of a point, and of how many clips."""
    metering.missing.clear()
    clips = metering.measure([point])
    return (metering.metrics(point, clips) if clips else {}), len(clips)


def _complete() -> Any:
    return import_optuna().trial.TrialState.COMPLETE


def _finished(study: Any) -> int:
    return len(study.get_trials(deepcopy=False, states=(_complete(),)))


def _markdown(result: Mapping[str, Any]) -> str:
    names, measures = list(result["search"]["options"]), list(result["search"]["objective"])
    told = [
        f"{one['weight']:g} x " + (f"distance of {name} to {one['target']}" if "target" in one else name)
        for name, one in result["search"]["objective"].items()
    ]
    body = [
        [
            row["series"],
            f"{row['objective']:.4f}",
            *(
                value_text(v) if isinstance(v := row["options"][name], int | float) else str(v)
                for name in names
            ),
            *(value_text(row[name]["value"]) for name in measures),
        ]
        for row in result["rows"]
    ]
    head = ["trial", "objective", *names, *measures]
    lead = (
        f"Made as large as possible: {' + '.join(told)}. Report the best on clips that the search never saw."
    )
    return "\n\n".join(["# Search", lead, markdown_table(head, body)]) + "\n"
