"""An ablation study in its folder: what is missing is trained and evaluated, what is there is kept, the table is of all.

The folder holds ``runs/STAGE-KEY`` (run folders, their logs and why one failed), ``models/NAME``, ``results/NAME`` (an
evaluation of a row and seed, with the key of all that it hangs on) and the tables. Only ``results`` is needed to make the
table again: checkpoints may be deleted.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from experiments.ablation.jobs import Job, run_jobs
from experiments.ablation.plan import Member, Row, Study, Training
from experiments.ablation.table import MemberResult, RowResult
from experiments.ablations import STAGES
from experiments.config import compose, override
from experiments.results import GALLERY, RESULTS, read_json, read_results, write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workshop:
    """Where and how the jobs of a study run.

    Attributes:
        folder: of the study.
        parallel: jobs side by side.
        launcher: of Hydra, or ``local``.
        retry: whether what failed before is tried again.
    """

    folder: Path
    parallel: int = 1
    launcher: str = "local"
    retry: bool = False

    def run_dir(self, training: Training) -> Path:
        """Run folder of a training."""
        return self.folder / "runs" / training.name

    def results(self, member: Member) -> Path:
        """Folder of the results of a row and seed."""
        return self.folder / "results" / member.name

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs, those that failed before only where they shall be tried again."""
        todo = [job for job in jobs if self.retry or not job.failure.exists()]
        run_jobs(todo, self.parallel, self.launcher, log.info)


def run_study(study: Study, rows: Sequence[Row], shop: Workshop) -> list[RowResult]:
    """Train and evaluate what is missing of a study; a failure is part of the result of its row."""
    members = [member for row in rows for member in row.members]
    wanting = [member for member in members if not _evaluated(shop, member)]
    log.info("%d of %d models are evaluated already", len(members) - len(wanting), len(members))
    for level in (STAGES[:1], STAGES[1:]):
        trainings = {one.name: one for member in wanting for one in member.trainings() if one.stage in level}
        shop.run([job for one in trainings.values() if (job := _training_job(shop, one)) is not None])
    evaluations = [job for member in wanting if (job := _evaluation_job(study, shop, member)) is not None]
    shop.run(evaluations)
    for member in wanting:
        _stamp(shop, member)
    return [
        RowResult(row.name, row.group, row.claim, tuple(_result(shop, one) for one in row.members))
        for row in rows
    ]


def _evaluated(shop: Workshop, member: Member) -> bool:
    """Whether the results of a member are there, of just what it hangs on."""
    path = shop.results(member) / RESULTS
    if not path.is_file():
        return False
    return (read_results(path)["run"].get("ablation") or {}).get("key") == member.key


def _trained(shop: Workshop, training: Training | Path) -> Path | None:
    """The run folder of a training that is through; a given one is."""
    if isinstance(training, Path):
        return training
    run_dir = shop.run_dir(training)
    return run_dir if (run_dir / "run.json").is_file() else None


def _training_job(shop: Workshop, training: Training) -> Job | None:
    """What is left to do of a training; None: nothing, or its autoencoder failed."""
    run_dir = shop.run_dir(training)
    if _trained(shop, training) is not None:
        return None
    words = ["train", *training.words, override("run_dir", run_dir)]
    if training.parent is not None:
        if (autoencoder := _trained(shop, training.parent)) is None:
            return None
        words.append(override("autoencoder", autoencoder))
    wait_for(run_dir)
    if _trained(shop, training) is not None:
        return None
    if (run_dir / "checkpoints" / "last.ckpt").is_file():
        words.append("resume=last")
    return Job(f"train {training.name}", [words], run_dir.with_name(f"{training.name}.log"))


def wait_for(run_dir: Path) -> None:
    """Wait until no process trains in a run folder any more: one may have outlived the study that began it."""
    from filelock import FileLock

    if (run_dir / ".lock").is_file():
        lock = FileLock(run_dir / ".lock")
        if lock.lock_counter == 0:
            with lock.acquire(poll_interval=1):
                pass


def _evaluation_job(study: Study, shop: Workshop, member: Member) -> Job | None:
    """Package and evaluate a member; None if a stage of it is missing."""
    runs = {stage: _trained(shop, one) for stage, one in member.stages.items()}
    if None in runs.values():
        return None
    model, output = shop.folder / "models" / member.name, shop.results(member)
    log_file = shop.folder / "results" / f"{member.name}.log"
    words = [
        "evaluate",
        override("method", member.name),
        override("output", output),
        *_data(member),
        *member.words,
    ]
    if study.task == "reconstruction":
        words.append(override("autoencoder", runs[STAGES[0]]))
        return Job(f"evaluate {member.name}", [words], log_file)
    flags = [text for stage, run in runs.items() for text in (f"--{stage}", str(run))]
    if model.exists():
        shutil.rmtree(model)
    commands = [["package", *flags, "--output", str(model)], [*words, override("model", model)]]
    return Job(f"evaluate {member.name}", commands, log_file)


def _data(member: Member) -> list[str]:
    """The data that the last stage of a member was trained on, if the evaluation names none."""
    last = member.trainings()[-1]
    return [override("data.root", compose(list(last.words)).data.root)]


def _stamp(shop: Workshop, member: Member) -> None:
    """Write into results what they hang on and what they cost, once they are there."""
    path = shop.results(member) / RESULTS
    if _evaluation_failed(shop, member) or not path.is_file() or _evaluated(shop, member):
        return
    results = read_results(path)
    results["run"]["ablation"] = {
        "key": member.key,
        "row": member.row,
        "group": member.group,
        "seed": member.seed,
        "stages": {stage: getattr(one, "key", str(one)) for stage, one in member.stages.items()},
        "commits": _commits(shop, member),
        "cost": _cost(shop, member),
    }
    write_json(path, results)


def _evaluation_failed(shop: Workshop, member: Member) -> bool:
    return (shop.folder / "results" / f"{member.name}.failed").exists()


def _anew(member: Member) -> list[Training]:
    """The trainings of a member from its group's stage on."""
    return [one for one in member.trainings() if STAGES.index(one.stage) >= STAGES.index(member.group)]


def _commits(shop: Workshop, member: Member) -> dict[str, Any]:
    """By which code each stage was trained: shown, never compared."""
    records = {one.stage: read_json(shop.run_dir(one) / "run.json") for one in member.trainings()}
    return {stage: record["identity"]["commit"] for stage, record in records.items()}


def _cost(shop: Workshop, member: Member) -> dict[str, float]:
    """Parameters and minutes of what was trained anew."""
    from lightning_modules.checkpoints import load_network

    runs = [shop.run_dir(one) for one in _anew(member)]
    count = sum(value.numel() for run in runs for value in load_network(run)[0].parameters())
    minutes = sum(read_json(run / "run.json")["seconds"] for run in runs) / 60
    return {"parameters": float(count), "minutes": round(minutes, 2)}


def _result(shop: Workshop, member: Member) -> MemberResult:
    """What is known of a member now."""
    folder = shop.results(member)
    if not _evaluated(shop, member):
        return MemberResult(member.seed, None, _failure(shop, member))
    results = read_results(folder / RESULTS)
    sheets = tuple(sorted((folder / GALLERY).glob("sheet_*.png")))
    return MemberResult(member.seed, results, cost=results["run"]["ablation"]["cost"], sheets=sheets)


def _failure(shop: Workshop, member: Member) -> str:
    """Why a member has no results: the first of its stages that failed, else its evaluation."""
    logs = [shop.run_dir(one).with_name(f"{one.name}.failed") for one in member.trainings()]
    for path in (*logs, shop.folder / "results" / f"{member.name}.failed"):
        if path.is_file():
            return path.read_text(encoding="utf-8").strip()
    return "not done"


def check_given(given: dict[str, Path]) -> None:
    """Refuse given stages that are not there.

    Raises:
        UserError: names the first.
    """
    for stage, path in given.items():
        if not path.exists():
            raise UserError(f"{stage}={path}: no such run folder or checkpoint; check the name")
