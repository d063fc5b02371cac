"""Commands of ``ifmdm`` as jobs, several side by side: each in a process of its own, so that one that dies ends no other."""

import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
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
            lines = job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = lines[-1].removeprefix("ifmdm: error: ") if lines else ""
            how = f"status {done.returncode}"
            if done.returncode < 0:
                how = f"signal {signal.Signals(-done.returncode).name} (out of memory?)"
            why = f"{words[0]} ended with {how}: {said}"[:400]
            if done.returncode not in STOPPED:
                job.failure.write_text(why + "\n", encoding="utf-8")
            return why
    return None


def run_jobs(
    chains: Sequence[Sequence[Job]],
    parallel: int,
    launcher: str = LOCAL,
    told: Callable[[str], object] = print,
) -> None:
    """Run chains of jobs, ``parallel`` of them side by side, or all by a launcher of Hydra (``configs/launcher``).

    A job of a chain that fails ends the chain. With several GPUs each of the chains side by side sees one of them.
    """
    if not chains:
        return
    if launcher != LOCAL:
        _launched(chains, launcher)
        return
    slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for slot in range(parallel):
        slots.put(_environment(slot, parallel))

    def one(numbered: tuple[int, Sequence[Job]]) -> None:
        number, chain = numbered
        environment = slots.get()
        try:
            run_chain(chain, environment, lambda text: told(f"[{number}/{len(chains)}] {text}"))
        finally:
            slots.put(environment)

    pool = ThreadPoolExecutor(parallel)
    try:
        list(pool.map(one, enumerate(chains, start=1)))
    finally:
        pool.shutdown(cancel_futures=True)  # when interrupted no other is begun


def run_chain(
    chain: Sequence[Job], environment: dict[str, str] | None = None, told: Callable[[str], object] = print
) -> None:
    """Run jobs one after the other up to the first that fails; what each does is told."""
    for job in chain:
        told(job.title)
        if failed := run_job(job, environment):
            told(f"{job.title}: FAILED, {failed}")
            return


def _environment(slot: int, parallel: int) -> dict[str, str]:
    """Of a job in a slot: a GPU of its own where there are as many, else its share of the cores."""
    from datamodules.processes import cores_of_process

    environment = dict(os.environ)
    gpus = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    gpus = gpus or [str(number) for number in range(device_count())]
    if len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        if environment.get("IFMDM_DEVICE", "").startswith("cuda:"):  # a number among all GPUs
            environment["IFMDM_DEVICE"] = "cuda"
    if parallel > 1:
        environment.setdefault("IFMDM_THREADS", str(max(1, cores_of_process() // parallel)))
    return environment


def device_count() -> int:
    """GPUs of this machine."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _launched(chains: Sequence[Sequence[Job]], launcher: str) -> None:
    """Run chains as the jobs of a Hydra multirun, which any launcher of Hydra takes."""
    from experiments.multirun import launch

    place = chains[0][0].log.parent
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".jobs-", dir=place) as folder:
        listed = Path(folder) / "jobs.json"
        values = [[asdict(job) for job in chain] for chain in chains]
        listed.write_text(json.dumps(values, default=str), encoding="utf-8")
        launch(launcher, listed, len(chains))


def run_listed(listed: Path, number: int) -> None:
    """Run one chain of a list that `run_jobs` wrote; what a launcher calls, perhaps on another machine."""
    values: list[list[dict[str, Any]]] = json.loads(listed.read_text(encoding="utf-8"))
    run_chain([Job(one["title"], one["commands"], Path(one["log"])) for one in values[number]])
