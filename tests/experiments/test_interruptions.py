"""Trainings that are ended, killed or starved go on as if nothing had been, or keep what is good and say one line."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from datamodules.errors import UserError
from experiments.run_folder import own_run_folder
from experiments.train import TrainingResult
from lightning_modules.callbacks.best_checkpoint import BestCheckpoint

ROOT = Path(__file__).parents[2]
STAGES = ("autoencoder", "statistics", "diffusion", "sync_expert")


class LostError(Exception):
    """Stands for a kill: nothing is saved."""


class End(Callback):
    """Ends a training at a step: by a signal to itself, or at once."""

    def __init__(self, step: int, by: str) -> None:
        self.step, self.by = step, by

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            if self.by == "lost":
                raise LostError
            os.kill(os.getpid(), signal.Signals[self.by])


def content(result: TrainingResult) -> dict[str, Any]:
    """What must be the same whether a training was interrupted or not."""
    found = torch.load(result.checkpoint, map_location="cpu", weights_only=True)
    names = ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "random_state")
    return {name: found[name] for name in names if name in found}


def differences(first: Any, second: Any, place: str = "") -> list[str]:
    if isinstance(first, Tensor):
        return [] if torch.equal(first, second) else [place]
    if isinstance(first, dict | list | tuple):
        items = first.items() if isinstance(first, dict) else enumerate(first)
        assert len(first) == len(second)
        return [one for key, value in items for one in differences(value, second[key], f"{place}.{key}")]
    return [] if first == second else [place]


@pytest.mark.parametrize("by", ["SIGTERM", "lost"])
@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_training_ends_bit_for_bit_as_one_that_was_not(
    stage: str, by: str, train: Callable[..., TrainingResult], tmp_path: Path
) -> None:
    """An epoch has three steps; SIGTERM saves within one, what is lost goes on from the end of one. A worker loads ahead."""
    common = ["trainer.max_steps=8", "data.num_workers=1"]
    whole = train(stage, *common, f"run_dir={tmp_path / 'whole'}")
    resume: list[str] = []
    for step in (4, 5):
        end = f"+callbacks.end={{_target_: {__name__}.End, step: {step}, by: {by}}}"
        with pytest.raises(LostError if by == "lost" else SystemExit) as ended:
            train(stage, *common, *resume, end)
        assert by == "lost" or ended.value.args == (143,)
        resume = ["resume=last"]
    parts = train(stage, *common, *resume)
    assert differences(content(whole), content(parts)) == []
    assert (tmp_path / "run/run.json").read_text().count('"epochs": 3,') == 1
    assert sorted(path.name for path in parts.checkpoint.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_reaching_max_steps_within_an_epoch_loses_nothing(
    train: Callable[..., TrainingResult], tmp_path: Path
) -> None:
    common = ("statistics", "model.scheduler=null")  # which is made for a number of steps
    whole = train(*common, "trainer.max_steps=7", f"run_dir={tmp_path / 'whole'}")
    for steps, resume in ((2, "null"), (5, "last"), (6, "last"), (7, "last")):
        parts = train(*common, f"trainer.max_steps={steps}", f"resume={resume}")
    assert differences(content(whole), content(parts)) == []


def one_line(done: subprocess.CompletedProcess[str], *told: str) -> None:
    """Of its own a refused command says one line; Lightning's progress lines may come before it."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("ifmdm: error: ")
    assert all(part in line for part in told), line


def start(
    words: list[str],
    largest: int | None = None,
    path: Path = ROOT,
    temporary: str = "/tmp",
    program: Sequence[str] = ("-m", "experiments", "train"),
) -> subprocess.Popen[str]:
    """A command in another process, which may write files of so many bytes and imports from ``path``, too."""

    def limit() -> None:
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{path}", "OMP_NUM_THREADS": "1", "TMPDIR": temporary}
    return subprocess.Popen(
        [sys.executable, *program, *words],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
        preexec_fn=limit,
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> subprocess.CompletedProcess[str]:
    try:
        _, told = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess((), process.returncode, "", told)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("stage", "part"), [*((stage, "") for stage in STAGES), ("autoencoder", "scales.0.to_flow.weight")]
)
def test_a_training_that_diverges_names_its_last_good_checkpoint(
    stage: str, part: str, train: Callable[..., TrainingResult], tmp_path: Path
) -> None:
    common = [stage, "model.scheduler=null"]  # which is made for a number of steps
    last = train(*common, "trainer.max_steps=3").checkpoint
    good = last.read_bytes()
    poison = f"+callbacks.wild={{_target_: {__name__}.Poison, part: '{part}'}}"
    with pytest.raises(UserError, match=rf"diverged.*NaN.*last good checkpoint is {last}; try a smaller"):
        train(*common, "resume=last", "trainer.max_steps=5", poison)
    assert last.read_bytes() == good


class Poison(Callback):
    """Makes a part of a weight NaN, as a step that overflows does; of a flow, its first direction."""

    def __init__(self, part: str) -> None:
        self.part = part

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        weights = pl_module.network.named_parameters()
        with torch.no_grad():
            next(p for name, p in weights if name.endswith(self.part) and p.requires_grad)[:1] = torch.nan


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    best = BestCheckpoint(str(tmp_path), monitor="val/loss", filename="best")
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    values = [torch.nan, torch.inf, 3.0, torch.nan]
    assert [best.check_monitor_top_k(trainer, torch.tensor(v)) for v in values] == [False, False, True, False]
    assert best.state_key == ModelCheckpoint(str(tmp_path), monitor="val/loss", filename="best").state_key


def test_a_training_that_ends_by_the_clock_is_judged_where_it_ends(
    train: Callable[..., TrainingResult],
) -> None:
    """Its best checkpoint is not the one of the last epoch that would have been validated anyhow: here there is none."""
    result = train(
        "diffusion",
        "trainer.max_steps=-1",
        "time_limit='00:00:00:02'",
        "trainer.check_val_every_n_epoch=100000",
    )
    ends = [result.run_dir / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
    best, last = (torch.load(path, map_location="cpu", weights_only=True)["global_step"] for path in ends)
    assert best == last > 0
    assert "val/loss" in result.metrics


@pytest.mark.parametrize("key", ["model.losses.l1.weight", "model.optimizer.lr"])
def test_a_number_that_is_none_is_refused_in_a_config(
    key: str, words: Callable[..., list[str]], refused: Callable[..., str]
) -> None:
    assert f"config: {key}=nan: use a finite number" in refused(
        ["train", *words("autoencoder", f"{key}=nan")]
    )


def test_poisoned_latents_name_their_clip(
    train: Callable[..., TrainingResult], tmp_path: Path, blobs: Path
) -> None:
    latents = tmp_path / "latents"
    train("statistics", "trainer.max_steps=1", f"data.latents={latents}")
    (shard,) = latents.glob("shard-*.safetensors")
    with safe_open(shard, "pt") as file:
        told, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["fake1/motion"][5] = torch.nan
    save_file(tensors, shard, told)
    again = ["resume=last", "trainer.max_steps=50", f"data.latents={latents}"]
    for more in ([], ["data.num_workers=1"]):
        with pytest.raises(UserError, match="latents of fake1 hold values that are NaN"):
            train("statistics", *again, *more)
    for basis in latents.glob("basis-*"):
        basis.unlink()
    with pytest.raises(UserError, match="latents of fake1 hold values that are NaN"):
        train("statistics", *again)


def test_one_folder_is_one_training(
    words: Callable[..., list[str]], tmp_path: Path, refused: Callable[..., str]
) -> None:
    with own_run_folder(tmp_path / "run"):
        refused(
            ["train", *words("autoencoder")], f"{tmp_path / 'run'}: another process trains in this folder"
        )
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()  # nothing was written


def test_a_job_that_slurm_starts_again_goes_on(
    train: Callable[..., TrainingResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    train("statistics", "trainer.max_steps=3")
    with pytest.raises(UserError, match="already holds a trained run"):
        train("statistics", "trainer.max_steps=6")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    result = train("statistics", "trainer.max_steps=6")
    assert torch.load(result.checkpoint, weights_only=True)["global_step"] == 6


@pytest.mark.parametrize(
    "trouble",
    ["full", pytest.param("gone", marks=pytest.mark.slow), pytest.param("no data", marks=pytest.mark.slow)],
)
def test_a_disk_that_fails_is_one_line_and_the_last_good_state_stays(
    trouble: str,
    words: Callable[..., list[str]],
    train: Callable[..., TrainingResult],
    tmp_path: Path,
    blobs: Path,
) -> None:
    """A full disk is played by a limit of the size of files."""
    data = shutil.copytree(blobs, tmp_path / "data", ignore=shutil.ignore_patterns("latents"))
    run, root = tmp_path / "run", f"data.root={tmp_path / 'data'}"
    train("autoencoder", root, "trainer.max_steps=3")
    kept = {path: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    largest = 2**15 if trouble == "full" else None
    process = start(words("autoencoder", root, "resume=last", "trainer.max_steps=100000"), largest)
    if trouble == "gone":
        wait_for(run / "metrics" / "version_1", process)
        run.rename(tmp_path / "away")
    if trouble == "no data":
        wait_for(run / "metrics" / "version_1", process)
        shutil.rmtree(data)
    one_line(finish(process), {"full": "File too large", "gone": "run", "no data": "data"}[trouble])
    found = {path: path.read_bytes() for path in (run / "checkpoints").glob("*")}
    if trouble == "full":
        assert found == kept
    elif trouble == "no data":
        assert found.keys() == kept.keys()
    else:
        assert not found


@pytest.mark.slow
@pytest.mark.parametrize("where", ["anywhere", "writing"])
@pytest.mark.parametrize("stage", STAGES[:3])
def test_ten_kills_change_nothing_and_leave_nothing_behind(
    stage: str,
    where: str,
    words: Callable[..., list[str]],
    train: Callable[..., TrainingResult],
    tmp_path: Path,
) -> None:
    """At random moments, or while a checkpoint is written; the run's folder is on another file system than /tmp.

    A training gets twelve steps further at most until it is killed, so that ten kills come before its last step.
    """
    steps = "trainer.max_steps=125"
    whole = train(stage, steps, f"run_dir={tmp_path / 'whole'}")
    (tmp_path / "interruption.py").write_text(KILL)
    generator = random.Random(0)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, tempfile.TemporaryDirectory() as temporary:
        run = Path(folder) / "run"
        overrides = [*words(stage, steps), f"run_dir={run}"]
        for _ in range(10):
            kill = f"{{_target_: interruption.Kill, where: {where}, seed: {generator.randrange(1000)}}}"
            resume = ["resume=last"] if (run / "checkpoints/last.ckpt").exists() else []
            more = [*resume, f"+callbacks.kill={kill}"]
            ended = finish(start([*overrides, *more], path=tmp_path, temporary=temporary))
            assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert finish(start([*overrides, "resume=last"], temporary=temporary)).returncode == 0
        parts = TrainingResult(run, run / "checkpoints/last.ckpt", {})
        assert differences(content(whole), content(parts)) == []
        assert sorted(path.name for path in parts.checkpoint.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
        assert [path.name for path in Path(folder).rglob("*") if ".part" in path.name] == []
        assert list(Path(folder).iterdir()) == [run]
        assert list(Path(temporary).iterdir()) == []


KILL = """
import io, os, random, signal, threading
import torch
from lightning.pytorch import Callback
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
class Kill(Callback):
    def __init__(self, where, seed):
        self.where, self.random = where, random.Random(seed)
    def on_train_start(self, *_):
        self.left = self.random.randrange(12) if self.where == "anywhere" else self.random.randrange(1, 6)
        self.most, self.save = 12, torch.save
        if self.where == "writing":
            torch.save = self.write
    def on_train_batch_start(self, *_):
        if self.where == "anywhere" and self.left == 0:
            threading.Timer(self.random.uniform(0, 0.1), kill).start()
        if self.most == 0:
            kill()
        self.left, self.most = self.left - 1, self.most - 1
    def write(self, content, file):
        self.left -= 1
        whole = io.BytesIO()
        self.save(content, whole)
        part = self.random.random() if self.left == 0 else 1
        file.write(whole.getvalue()[: int(part * whole.tell())])
        if self.left == 0:
            file.flush()
            kill()
"""
