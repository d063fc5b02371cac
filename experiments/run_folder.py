"""The folder of a run: where it is, what is continued in it, and what says there how it came about.

The hash in a run's identity covers the resolved config without the keys that only say where and how fast it runs; two runs
with one hash, one commit and no local changes are the same experiment.
"""

import contextlib
import copy
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from datamodules.clips.manifest import file_sha256
from datamodules.errors import UserError
from datamodules.files import require_output_folder, write_text
from datamodules.processes import cores_of_process
from experiments.config import instantiate
from experiments.config_checks import SOURCES
from experiments.startup import ROOT
from experiments.version import __version__

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from lightning_modules.checkpoints import NetworkRecord

RUN_DIR_VARIABLE = "IFMDM_RUN_DIR"
"""Tells the processes that Lightning's DDP launcher starts where the first process writes."""
INFRASTRUCTURE = (
    "run_dir",
    "resume",
    "compile",
    "logger",
    "callbacks.best",
    "callbacks.last",
    "callbacks.progress",
    "callbacks.samples",
    "data.root",
    "data.render_workers",
    "data.num_workers",
    "data.cache_frames",
    "data.on_device",
    "data.latents",
    "data.cache",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.profiler",
)
"""Dotted keys left out of the hash. Devices, nodes and precision stay in: they change the result."""
PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "av", "decord", "mediapipe", "hydra-core")
"""Whose versions are noted."""


def folder_of_first_process() -> Path | None:
    """Where the process writes that started this one; None in the first process of a machine."""
    if os.environ.get("LOCAL_RANK", "0") != "0" and RUN_DIR_VARIABLE in os.environ:
        return Path(os.environ[RUN_DIR_VARIABLE])
    return None


def run_folder(plain: dict[str, Any]) -> Path:
    """Folder of the run: the first process's own, in further processes of the same run the first one's.

    Raises:
        UserError: nothing can be written there, or it holds a trained run that is not to be continued.
    """
    first = folder_of_first_process()
    if first is not None:
        return first
    run_dir = require_output_folder(plain["run_dir"]).resolve()
    if plain["resume"] is None and checkpoints_of(run_dir):
        raise UserError(
            f"{run_dir}: already holds a trained run; choose another run_dir, or resume=last to continue it"
        )
    return run_dir


def checkpoints_of(run_dir: Path) -> list[Path]:
    """Whole checkpoints of a run; one that was being written when the process was killed has another name."""
    return sorted((run_dir / "checkpoints").glob("[!.]*.ckpt"))


def started_again(run_dir: str | Path) -> bool:
    """Whether Slurm has started this job again, and there is something to continue."""
    again = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    return again and (Path(run_dir) / "checkpoints" / "last.ckpt").is_file()


@contextlib.contextmanager
def own_run_folder(run_dir: Path) -> Iterator[None]:
    """Have a run folder alone: it is made, and leftovers of a kill are removed.

    Where the training is refused before a step has left anything there (a checkpoint, a logged value), so is what it wrote
    up to then, and the folder. The lock is ``.lock`` in it, and freed when its holder ends, however that happens.

    Raises:
        UserError: another process trains in it.
    """
    from filelock import FileLock, Timeout

    before = set(run_dir.iterdir()) if run_dir.exists() else set()
    made = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{run_dir}: another process trains in this folder; choose another run_dir") from None
    try:
        for leftover in (run_dir / "checkpoints").glob(".*.part.ckpt"):
            leftover.unlink()
        yield
    except UserError:
        if not checkpoints_of(run_dir) and not any(run_dir.rglob("metrics.csv")):
            for path in set(run_dir.iterdir()) - before - {run_dir / ".lock"}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # the first that holds something, or all is gone
            if [path.name for path in run_dir.iterdir()] == [".lock"]:
                (run_dir / ".lock").unlink()
            for folder in made:
                folder.rmdir()


def record_of(plain: dict[str, Any], model: Any) -> "NetworkRecord":
    """What ``network.json`` says of a resolved config and its LightningModule."""
    from lightning_modules.checkpoints import load_autoencoder, motion_space_of, network_record

    on_latents = plain["data"]["task"] == "motion_windows"
    space = motion_space_of(load_autoencoder(plain["autoencoder"])[0]) if on_latents else None
    diffusion = model.diffusion.settings() if hasattr(model, "diffusion") else None
    audio = dict(plain["audio"]) if on_latents else None
    if audio is not None and audio["name"] != "mel":  # which has no weights that could be others
        audio["identity"] = instantiate(plain["audio"]).identity()
    return network_record(plain["stage"], model.network, diffusion, audio, space)


def write_start(
    run_dir: Path, plain: dict[str, Any], record: "NetworkRecord", trainer: "Trainer", *_: Any
) -> None:
    """Write ``config.yaml``, for people, and ``network.json``, which programs read back.

    Args:
        run_dir: is there.
        plain: the resolved config.
        record: of the network that is about to be trained.
        trainer: has its data and is about to start; of its processes the first writes.
    """
    from lightning_modules.checkpoints import write_network_record

    if not trainer.is_global_zero:
        return
    write_text(run_dir / "config.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    write_network_record(run_dir, record)


def require_record(run_dir: Path, *_: Any) -> None:
    """Refuse to go on in a run folder that was moved or deleted: what is saved there lacks what says how it came about."""
    from lightning_modules.checkpoints import RECORD_NAME

    if not (run_dir / RECORD_NAME).is_file():
        raise UserError(f"{run_dir}: the run folder is gone, moved or deleted; the training ends")


def write_end(
    run_dir: Path,
    plain: dict[str, Any],
    words: Sequence[str],
    trainer: "Trainer",
    metrics: dict[str, float],
    seconds: float,
) -> None:
    """Write ``run.json``: what was run, by which overrides, for how long, with what last values, on what machine."""
    commit, dirty = git_state()
    record = {
        "identity": {
            "config_hash": config_hash(plain),
            "commit": commit,
            "dirty": dirty,
            "version": __version__,
        },
        "stage": plain["stage"],
        "name": plain["name"],
        "ablation": plain["ablations"],
        "seed": plain["seed"],
        "overrides": list(words),
        "init": plain["init"] and {"file": plain["init"], "sha256": file_sha256(Path(plain["init"]))},
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "devices": trainer.num_devices * trainer.num_nodes,
        "seconds": round(seconds, 1),
        "metrics": metrics,
        "machine": machine_facts(),
    }
    write_text(run_dir / "run.json", json.dumps(record, indent=2) + "\n")


def config_hash(config: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a resolved config (plain values) without infrastructure keys.

    Keys are sorted, so their order in the files does not matter. Of a checkpoint the content counts, not where it lies.
    """
    kept = copy.deepcopy(dict(config))
    for key in INFRASTRUCTURE:
        *above, last = key.split(".")
        node: Any = kept
        for name in above:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(last, None)
    for key in SOURCES:
        if kept.get(key) and Path(kept[key]).is_file():
            kept[key] = file_sha256(Path(kept[key]))
    text = json.dumps(_without_nulls(kept), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_nulls(value: Any) -> Any:
    """The value without keys that say nothing, so that a setting that is new, and not set, changes no hash."""
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def git_state(folder: Path = ROOT) -> tuple[str | None, bool | None]:
    """Commit of the repository at ``folder`` and whether tracked files were changed; (None, None) if there is none.

    A folder inside some other project's repository, such as an installed copy in its virtual environment, is none.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if top is None or commit is None or Path(top).resolve() != folder.resolve():
        return None, None
    return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=30, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine_facts() -> dict[str, Any]:
    """Processor, cores, memory in GiB, accelerators, Python and the versions of the packages that matter."""
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores_of_process(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None  # not a POSIX system
