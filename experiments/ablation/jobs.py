"""Commands of ``ifmdm`` as jobs, several side by side: each in a process of its own, so that one that dies ends no other."""

import json
import os
import queue
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import UserError

STOPPED = (130, 143)
"""Statuses of a command that was interrupted or told to end: that is no failure, it goes on the next time."""
LOCAL = "local"
"""The launcher that needs no Hydra: jobs of this machine."""


@dataclass(frozen=True)
class Job:
    """Commands that follow each other; the first that fails ends the job.

    Attributes:
        title: what it does, for the log.
        commands: words of ``ifmdm``, without the program's name.
        log: file that their output is added to; ``log`` with the suffix ``.failed`` says why it
            failed, in one line.
    """

    title: str
    commands: list[list[str]]
    log: Path

    @property
    def failure(self) -> Path:
        """File that is there if the job failed."""
        return self.log.with_suffix(".failed")


def run_job(job: Job, environment: dict[str, str] | None = None) -> str | None:
    """Run the commands of a job.

    Returns:
        None, or in one line why it failed: what the command said last.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.failure.unlink(missing_ok=True)
    for words in job.commands:
        with job.log.open("a", encoding="utf-8") as log:
            log.write(f"$ ifmdm {shlex.join(words)}\n")
            log.flush()
            command = [sys.executable, "-m", "experiments", *words]
            done = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, stdin=subprocess.DEVNULL
            )
        if done.returncode:
            stopped = done.returncode < 0 or done.returncode in STOPPED
            lines = job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = lines[-1].removeprefix("ifmdm: error: ") if lines else ""
            why = f"{words[0]} ended with status {done.returncode}: {said}"[:400]
            if not stopped:
                job.failure.write_text(why + "\n", encoding="utf-8")
            return why
    return None


def run_jobs(
    jobs: Sequence[Job], parallel: int, launcher: str = LOCAL, told: Callable[[str], object] = print
) -> list[str | None]:
    """Run jobs, ``parallel`` of them side by side, or all by a launcher of Hydra (``configs/launcher``).

    With several GPUs each of the jobs side by side sees one of them.

    Returns:
        For each job None, or why it failed.
    """
    if not jobs:
        return []
    if launcher != LOCAL:
        return _launched(jobs, launcher)
    slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for slot in range(parallel):
        slots.put(_environment(slot, parallel))

    def one(numbered: tuple[int, Job]) -> str | None:
        number, job = numbered
        environment = slots.get()
        try:
            told(f"[{number}/{len(jobs)}] {job.title}")
            failed = run_job(job, environment)
        finally:
            slots.put(environment)
        if failed:
            told(f"[{number}/{len(jobs)}] {job.title}: FAILED, {failed}")
        return failed

    pool = ThreadPoolExecutor(parallel)
    try:
        return list(pool.map(one, enumerate(jobs, start=1)))
    finally:
        pool.shutdown(cancel_futures=True)  # when interrupted no other is begun


def _environment(slot: int, parallel: int) -> dict[str, str]:
    """Of a job in a slot: a GPU of its own where there are as many, else its share of the cores."""
    from experiments.startup import cores_of_process

    environment = dict(os.environ)
    gpus = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    gpus = gpus or [str(number) for number in range(device_count())]
    if len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    if parallel > 1:
        environment.setdefault("IFMDM_THREADS", str(max(1, cores_of_process() // parallel)))
    return environment


def device_count() -> int:
    """GPUs of this machine."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _launched(jobs: Sequence[Job], launcher: str) -> list[str | None]:
    """Run jobs as those of a Hydra multirun, which any launcher of Hydra takes."""
    from experiments.multirun import launch

    with tempfile.TemporaryDirectory(prefix=".jobs-", dir=jobs[0].log.parent) as folder:
        listed = Path(folder) / "jobs.json"
        listed.write_text(json.dumps([asdict(job) for job in jobs], default=str), encoding="utf-8")
        launch(launcher, listed, len(jobs))
    return [job.failure.read_text(encoding="utf-8").strip() if job.failure.exists() else None for job in jobs]


def run_listed(listed: Path, number: int) -> None:
    """Run one job of a list that `run_jobs` wrote; what a launcher calls, perhaps on another machine."""
    values: list[dict[str, Any]] = json.loads(listed.read_text(encoding="utf-8"))
    try:
        one = values[number]
    except IndexError as error:
        raise UserError(f"{listed}: holds no job {number}") from error
    run_job(Job(one["title"], one["commands"], Path(one["log"])))
