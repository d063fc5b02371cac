"""``ifmdm ablate``: trains what an ablation study lacks, evaluates it by one protocol and writes one table."""

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.errors import UserError
from datamodules.files import folder_lock, require_output_folder

if TYPE_CHECKING:
    from experiments.ablation.analysis import RowResult
    from experiments.ablation.plan import Study

log = logging.getLogger(__name__)

WORDS = ("ablation", "base", "seeds", "control", "task", "output", "parallel", "launcher", "retry")
"""The words that are the study's own."""
CONTROL_SEEDS = (10, 11, 12)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm ablate``."""
    from experiments.ablations import ablation_names
    from experiments.config import config_names

    parser.description = (
        "Compare trained models that differ in one part: ablation=A,B base=NAME. Stages of one key are trained once; what "
        "is there already is not done again, so a study that was stopped goes on where it was."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        [
            f"ablation: {', '.join(ablation_names())}, or a file.yaml",
            f"base: {', '.join(config_names('base'))}",
            "seeds=0,1,2: of the trainings; control=10,11,12: of the row A/A (control=none: no such row)",
            "task=reconstruction: the autoencoder alone",
            "STAGE=RUN: a stage that is trained already; STAGE.KEY=VALUE, evaluation.KEY=VALUE: further overrides",
            "data=folder, data.KEY=VALUE: of all stages",
            "parallel=N: side by side; launcher=NAME: of Hydra; retry=true: what failed",
        ]
    )
    parser.add_argument("words", nargs="+", metavar="KEY=VALUE", help="see below")


def run(args: argparse.Namespace) -> int:
    """Run the study that the words describe; the status is 1 if a training or an evaluation failed.

    Raises:
        UserError: a word makes no sense, an ablation changes nothing in this base, or the folder holds another study.
    """
    given, overrides = split_words(args.words)
    study = read_study(given, overrides)
    from experiments.ablation.plan import Keys, plan
    from experiments.ablation.study import Workshop, run_study

    folder = require_output_folder(given.get("output") or f"results/ablations-{study.base.name}")
    launcher = given.get("launcher", "local")
    shop = Workshop(folder, _parallel(given.get("parallel")), launcher, _retry(given.get("retry", "false")))
    rows = plan(study, Keys())
    with folder_lock(folder):
        found = run_study(study, rows, shop)
        write_study(folder, study, found, args.words)
    failed = [one for row in found for one in row.failures()]
    log.info("%d rows, %d trained models failed: %s", len(found), len(failed), folder / "ablations.md")
    return 1 if failed else 0


def split_words(words: Sequence[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The study's own words by name, and the others as pairs of key and value.

    Raises:
        UserError: a word is no ``KEY=VALUE``, or is given twice.
    """
    own: dict[str, str] = {}
    others = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f"'{word}': write KEY=VALUE; see `ifmdm ablate --help`")
        if key not in WORDS:
            others.append((key, value))
        elif key in own:
            raise UserError(f"{key}= is given twice; write it once")
        else:
            own[key] = value
    return own, others


def read_study(own: dict[str, str], overrides: Sequence[tuple[str, str]]) -> "Study":
    """The study that words describe.

    Raises:
        UserError: one of them makes no sense.
    """
    from experiments.ablation.plan import TASKS, Study
    from experiments.ablations import ORDER as STAGES
    from experiments.ablations import read_ablation, read_base, refuse_without_effect
    from experiments.config import compose

    if not own.get("ablation") or not own.get("base"):
        raise UserError("give ablation=A,B and base=NAME; see `ifmdm ablate --help`")
    base = read_base(own["base"])
    ablations = tuple(read_ablation(name) for name in _listed(own["ablation"]))
    names = [one.name for one in ablations]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f"ablation={own['ablation']}: two are called {twice[0]}; name one, or rename its file"
        )
    task = own.get("task", TASKS[0])
    if task not in TASKS:
        raise UserError(f"task={task}: choose one of {', '.join(TASKS)}")
    seeds = _numbers("seeds", own.get("seeds", "0"))
    control = own.get("control", ",".join(map(str, CONTROL_SEEDS[: len(seeds)])))
    controls = () if control in ("none", "null", "") else _numbers("control", control)
    if set(controls) & set(seeds):
        raise UserError(
            f"control={control}: has a seed of seeds={own.get('seeds', '0')}, which would be the same run"
        )
    given: dict[str, Path] = {}
    words: dict[str, list[str]] = {stage: [] for stage in (*STAGES, "evaluation")}
    for key, value in overrides:
        head, dot, rest = key.partition(".")
        if head in STAGES and not dot:
            given[head] = given_stage(head, value)
        elif head in words and dot:
            words[head].append(f"{rest}={value}")
        elif head == "data":
            for stage in STAGES:
                words[stage].append(f"{key}={value}")
            if rest == "root":
                words["evaluation"].append(f"{key}={value}")
        else:
            raise UserError(
                f"'{key}': no word of a study; overrides are of a stage ({', '.join(STAGES)}), evaluation or data, "
                f"such as diffusion.trainer.max_steps=100"
            )
    study = Study(
        base, ablations, seeds, controls, task, {name: tuple(one) for name, one in words.items()}, given
    )
    evaluation = (*base.evaluation, *words["evaluation"])
    compose(evaluation, "evaluate")  # a wrong key is told before anything is trained
    for ablation in ablations:
        asked = {stage: list(study.words_of(stage)) for stage in STAGES} | {"evaluation": list(evaluation)}
        refuse_without_effect(ablation, asked, base.name)
    return study


def given_stage(stage: str, source: str) -> Path:
    """File with the weights of a stage that is trained already: of a run, a checkpoint, a model folder or a shipped model.

    Raises:
        UserError: there is none.
    """
    from experiments.config_checks import require_source
    from lightning_modules.checkpoints import find_weights

    require_source(stage, source)
    return find_weights(source, stage)


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.strip("[]").split(",") if one.strip()]


def _numbers(name: str, text: str) -> tuple[int, ...]:
    found = _listed(text)
    if not found or not all(re.fullmatch(r"\d{1,9}", one) for one in found) or len(set(found)) < len(found):
        raise UserError(f"{name}={text}: give whole numbers, none twice, such as {name}=0,1,2")
    return tuple(map(int, found))


def _parallel(text: str | None) -> int:
    """Jobs side by side: as said, else one for each GPU, else one."""
    from experiments.ablation.jobs import device_count

    if text is None:
        return max(1, device_count())
    if not re.fullmatch(r"[1-9]\d{0,2}", text):
        raise UserError(f"parallel={text}: is no number of jobs, 1 or more")
    return int(text)


def _retry(text: str) -> bool:
    if text not in ("true", "false"):
        raise UserError(f"retry={text}: is neither true nor false")
    return text == "true"


def write_study(folder: Path, study: "Study", rows: "Sequence[RowResult]", words: Sequence[str]) -> None:
    """Write ``ablations.json``, ``.md``, ``.csv`` and ``.html`` of what is known of a study."""
    import shlex

    from experiments.ablation.analysis import study_table
    from experiments.ablation.tables import csv_text, markdown, sections
    from experiments.report.page import write_page
    from experiments.results import write_json, write_whole

    table = study_table(rows, study.task)
    command = f"ifmdm ablate {shlex.join(words)}"
    seeds = f"training seeds {', '.join(map(str, study.seeds))}"
    hashes = {one["protocol"]["hash"] for row in rows for one in row.known()}
    lead = f"`{command}` · {seeds} · protocol {', '.join(sorted(hashes)) or 'none'}"
    write_json(folder / "ablations.json", {"command": command, "protocols": sorted(hashes), **table})
    write_whole(folder / "ablations.md", markdown(table, lead))
    write_whole(folder / "ablations.csv", csv_text(table))
    write_page(
        sections(table, lead.replace("`", ""), rows),
        folder / "ablations.html",
        f"Ablations of {study.base.name}",
    )
