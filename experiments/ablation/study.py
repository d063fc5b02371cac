"""An ablation study in its folder: what is missing is trained and evaluated, what is there is kept, the table is of all.

The folder holds ``runs/STAGE-KEY`` (run folders, their logs and why one failed), ``models/NAME-KEY``, ``results/NAME`` (an
evaluation of a row and seed, which carries the key of all that it hangs on) and the tables. Only ``results`` is needed to
make the table again: checkpoints may be deleted.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from experiments.ablation.analysis import MemberResult, RowResult
from experiments.ablation.jobs import Job, run_jobs
from experiments.ablation.plan import Member, Row, Study, Training
from experiments.ablations import ORDER as STAGES
from experiments.config import compose, override
from experiments.results import GALLERY, RESULTS, read_json, read_results, write_json

log = logging.getLogger(__name__)

COST = "cost.json"
"""Of the folder of a row and seed: parameters and minutes of what was trained anew, and by which code."""


@dataclass(frozen=True)
class Workshop:
    """Where and how the jobs of a study run.

    Attributes:
        folder: of the study.
        parallel: jobs side by side.
        launcher: of Hydra, or ``local``.
        retry: whether what failed before is tried again.
        run_jobs: runs chains of jobs.
    """

    folder: Path
    parallel: int = 1
    launcher: str = "local"
    retry: bool = False
    run_jobs: Callable[..., None] = run_jobs

    def run_dir(self, training: Training) -> Path:
        """Run folder of a training."""
        return self.folder / "runs" / training.name

    def results(self, member: Member) -> Path:
        """Folder of the results of a row and seed."""
        return self.folder / "results" / member.name

    def run(self, chains: Sequence[Sequence[Job]]) -> None:
        """Run chains of jobs, what failed before and what needs it only where it shall be tried again."""
        todo = [[job for job in chain if self.retry or not job.failure.exists()] for chain in chains]
        self.run_jobs([chain for chain in todo if chain], self.parallel, self.launcher, log.info)


def run_study(study: Study, rows: Sequence[Row], shop: Workshop) -> list[RowResult]:
    """Train and evaluate what is missing of a study; a failure is part of the result of its row.

    Raises:
        UserError: The folder holds results of one of its models, made with other settings.
    """
    members = [member for row in rows for member in row.members]
    for member in members:
        found = _key_of_results(shop, member)
        if found is not None and found != member.key:
            raise UserError(
                f"{shop.results(member)}: was made with other settings or data than these; choose another output=, or "
                "remove it to make it anew"
            )
    wanting = [member for member in _by_seed(rows) if not _evaluated(shop, member)]
    log.info("%d of %d models are evaluated already", len(members) - len(wanting), len(members))
    last = study.stages()[-1]
    for stage in study.stages()[:-1]:
        shop.run([_training_jobs(shop, one) for one in _trainings(wanting, stage)])
    shop.run(_last_chains(study, shop, wanting, last))
    for member in members:
        _note_cost(shop, member)
    return [
        RowResult(row.name, row.group, row.claim, tuple(_result(shop, one) for one in row.members))
        for row in rows
    ]


def _by_seed(rows: Sequence[Row]) -> list[Member]:
    """All members, the first seed of every row before the second: a study that is stopped has a bit of all."""
    return [one for turn in zip_longest(*(row.members for row in rows)) for one in turn if one is not None]


def _trainings(members: Sequence[Member], stage: str) -> list[Training]:
    """What members train of a stage, each training once."""
    return list(
        {one.name: one for member in members for one in member.trainings() if one.stage == stage}.values()
    )


def _last_chains(study: Study, shop: Workshop, members: Sequence[Member], last: str) -> list[list[Job]]:
    """The training of the last stage, and behind it the evaluation of all that hang on it."""
    chains: dict[str, list[Job]] = {}
    for member in members:
        end = member.stages[last]
        name = end.name if isinstance(end, Training) else str(end)
        if name not in chains:
            jobs = _training_jobs(shop, end) if isinstance(end, Training) else []
            chains[name] = [
                replace(job, title=f"{job.title} ({member.row}, seed {member.seed})") for job in jobs
            ]
        runs = {stage: _trained(shop, one) for stage, one in member.stages.items()}
        if chains[name] and isinstance(end, Training):
            runs[last] = shop.run_dir(end)  # it will be there
        failed = any(job.failure.exists() for job in chains[name][:1]) and not shop.retry
        if None not in runs.values() and not failed:
            chains[name].append(_evaluation_job(study, shop, member, runs))
    return list(chains.values())


def _evaluated(shop: Workshop, member: Member) -> bool:
    """Whether the results of a member are there, of just what it hangs on."""
    return _key_of_results(shop, member) == member.key


def _key_of_results(shop: Workshop, member: Member) -> str | None:
    """The key of the results that lie where a member's belong; None if there are none."""
    path = shop.results(member) / RESULTS
    if not path.is_file():
        return None
    return str(((read_results(path)["run"] or {}).get("facts") or {}).get("key"))


def _trained(shop: Workshop, training: Training | Path) -> Path | None:
    """The run folder of a training that is through; a given one is."""
    if isinstance(training, Path):
        return training
    run_dir = shop.run_dir(training)
    return run_dir if (run_dir / "run.json").is_file() else None


def _training_jobs(shop: Workshop, training: Training) -> list[Job]:
    """What is left to do of a training; nothing if it is through, or its autoencoder is not."""
    run_dir = shop.run_dir(training)
    words = ["train", *training.words, override("run_dir", run_dir)]
    if training.parent is not None:
        if (autoencoder := _trained(shop, training.parent)) is None:
            return []
        words.append(override("autoencoder", autoencoder))
    wait_for(run_dir)
    if _trained(shop, training) is not None:
        return []
    if (run_dir / "checkpoints" / "last.ckpt").is_file():
        words.append("resume=last")
    return [Job(f"train {training.name}", [words], run_dir.with_name(f"{training.name}.log"))]


def wait_for(run_dir: Path) -> None:
    """Wait until no process trains in a run folder any more: one may have outlived the study that began it."""
    from filelock import FileLock, Timeout

    if (run_dir / ".lock").is_file():
        lock = FileLock(run_dir / ".lock")
        if lock.lock_counter == 0:
            try:
                lock.acquire(blocking=False)
            except Timeout:
                log.info("%s: another process still trains here; waiting for its end", run_dir)
                lock.acquire(poll_interval=1)
            lock.release()


def _evaluation_job(study: Study, shop: Workshop, member: Member, runs: Mapping[str, Path | None]) -> Job:
    """Package and evaluate a member whose stages lie in ``runs``."""
    model, output = shop.folder / "models" / member.keyed_name, shop.results(member)
    log_file = shop.folder / "results" / f"{member.keyed_name}.log"
    facts = {"key": member.key, "row": member.row, "group": member.group, "seed": member.seed}
    words = ["evaluate", override("method", member.name), override("output", output), _data(study)]
    words += [*member.words, *(override(f"+facts.{name}", value) for name, value in facts.items())]
    if study.task == "reconstruction":
        words.append(override("autoencoder", runs[STAGES[0]]))
        return Job(f"evaluate {member.name}", [words], log_file)
    if member.speech_model is not None:  # before the evaluation's own words, which win
        words.insert(1, override("speech_model", member.speech_model))
    flags = [text for stage, run in runs.items() for text in (f"--{stage}", str(run))]
    # A folder that is there is whole: its evaluation was stopped.
    package = [] if model.is_dir() else [["package", *flags, "--output", str(model)]]
    return Job(f"evaluate {member.name}", [*package, [*words, override("model", model)]], log_file)


def _data(study: Study) -> str:
    """The data that the last stage is trained on, unless the evaluation names others."""
    return override("data.root", compose(list(study.words_of(study.stages()[-1]))).data.root)


def _note_cost(shop: Workshop, member: Member) -> None:
    """Write beside a member's results what it cost and by which code it was trained, while its runs are there."""
    path, runs = shop.results(member) / COST, [shop.run_dir(one) for one in member.trainings()]
    if _evaluated(shop, member) and not path.is_file() and all((run / "run.json").is_file() for run in runs):
        write_json(path, {**_cost(shop, member), "commits": _commits(shop, member)})


def _anew(member: Member) -> list[Training]:
    """The trainings of a member from its group's stage on."""
    return [one for one in member.trainings() if STAGES.index(one.stage) >= STAGES.index(member.group)]


def _commits(shop: Workshop, member: Member) -> dict[str, Any]:
    """By which code each stage was trained: shown, never compared."""
    records = {one.stage: read_json(shop.run_dir(one) / "run.json") for one in member.trainings()}
    return {stage: record["identity"]["commit"] for stage, record in records.items()}


def _cost(shop: Workshop, member: Member) -> dict[str, float]:
    """Parameters and minutes of what was trained anew."""
    runs = [shop.run_dir(one) for one in _anew(member)]
    count = sum(map(parameters_of, runs))
    minutes = sum(read_json(run / "run.json")["seconds"] for run in runs) / 60
    return {"parameters": float(count), "minutes": round(minutes, 2)}


def parameters_of(run: Path) -> int:
    """Number of parameters of the network that a run trained."""
    from lightning_modules.checkpoints import load_network

    return sum(value.numel() for value in load_network(run)[0].parameters())


def _result(shop: Workshop, member: Member) -> MemberResult:
    """What is known of a member now."""
    folder = shop.results(member)
    if not _evaluated(shop, member):
        return MemberResult(member.seed, None, _failure(shop, member))
    sheets = tuple(sorted((folder / GALLERY).glob("sheet_*.png")))
    cost = read_json(folder / COST) if (folder / COST).is_file() else {}
    return MemberResult(member.seed, read_results(folder / RESULTS), cost=cost, sheets=sheets)


def _failure(shop: Workshop, member: Member) -> str:
    """Why a member has no results: the first of its stages that failed, else its evaluation."""
    logs = [shop.run_dir(one).with_name(f"{one.name}.failed") for one in member.trainings()]
    for path in (*logs, shop.folder / "results" / f"{member.keyed_name}.failed"):
        if path.is_file():
            return path.read_text(encoding="utf-8").strip()
    return "not done"
