"""Identity of a run: what was run, by which code, on which machine.

The hash covers the resolved config without the keys that only say where and how fast it runs; two runs with one hash, one
commit and no local changes are the same experiment.
"""

import copy
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from datamodules.clips.manifest import file_sha256
from experiments.startup import ROOT
from experiments.version import __version__

INFRASTRUCTURE = (
    "run_dir",
    "resume",
    "logger",
    "callbacks.best",
    "callbacks.last",
    "callbacks.progress",
    "callbacks.samples",
    "data.root",
    "data.render_workers",
    "data.num_workers",
    "data.cache_frames",
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


def run_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Which experiment a resolved config (plain values) is: hash, commit and version of the code, whether it was changed.

    Commit and ``dirty`` are None outside a repository.
    """
    commit, dirty = git_state(ROOT)
    return {"config_hash": config_hash(config), "commit": commit, "dirty": dirty, "version": __version__}


def config_hash(config: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the config without infrastructure keys.

    Keys are sorted, so their order in the files does not matter. Of a checkpoint the content counts, not where it lies.
    """
    kept = copy.deepcopy(dict(config))
    for key in INFRASTRUCTURE:
        _drop(kept, key.split("."))
    for key in ("autoencoder", "lift"):
        path = Path(str(kept.get(key)))
        if kept.get(key) and path.is_file():
            kept[key] = file_sha256(path)
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _drop(config: Any, keys: list[str]) -> None:
    for key in keys[:-1]:
        config = config.get(key) if isinstance(config, dict) else None
    if isinstance(config, dict):
        config.pop(keys[-1], None)


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the repository that holds ``folder`` and whether tracked files were changed; (None, None) outside one.

    A folder inside some other project's repository, such as an installed copy in its virtual environment, is outside.
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
    packages = ("torch", "lightning", "torchmetrics", "numpy", "av", "decord", "mediapipe", "hydra-core")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
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
