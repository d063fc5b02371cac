"""Launchers of Hydra: ``ifmdm train -m``, one training for each combination of values, and the jobs of ``ifmdm ablate``."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, OverrideParseException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from datamodules.errors import UserError
from experiments.ablations import asked_ablations, read_ablation
from experiments.config import (
    CONFIG_FOLDER,
    compose,
    config_error_line,
    hydra_overrides,
    instantiate,
    override,
    with_open_maps,
)
from experiments.train import run_training

ABLATION = "ablations"
"""What the word ``ablation`` is called inside Hydra, which would take it for a config of the folder of that name."""


def run_multirun(overrides: Sequence[str]) -> None:
    """Train once for each combination; ``UserError`` where one does not compose or cannot start as asked."""
    words = with_open_maps(hydra_overrides(overrides, multirun=True))
    for name in asked_ablations(words):
        read_ablation(name)
    _multirun(multirun_job, "train", [re.sub("^ablation=", f"{ABLATION}=", word) for word in words])


def launch(launcher: str, listed: Path, count: int) -> None:
    """Run the ``count`` jobs of a list (see `experiments.ablation.jobs`) by a launcher; returns when all have ended."""
    numbers = ",".join(map(str, range(count)))
    folder = override("hydra.sweep.dir", listed.parent / "launcher")
    _multirun(
        listed_job, "jobs", [f"launcher={launcher}", override("file", listed), f"job={numbers}", folder]
    )


def listed_job(config: DictConfig) -> None:
    """One job of a list."""
    from experiments.ablation.jobs import run_listed

    run_listed(Path(config.file), config.job)


def _multirun(job: Callable[[DictConfig], object], name: str, words: Sequence[str]) -> None:
    """Run ``job`` once for each combination of words on ``configs/NAME.yaml``; ``UserError`` where they don't compose."""
    with _as_hydra_program(["--multirun", *words]):
        decorate = hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name=name)
        try:
            decorate(job)()
        except (ConfigCompositionException, OverrideParseException, OmegaConfBaseException) as error:
            raise UserError(config_error_line(error)) from error


def multirun_job(config: DictConfig) -> dict[str, float]:
    """One job of a multirun, in the folder that Hydra gives it."""
    job = HydraConfig.get()
    words = [re.sub(f"^{ABLATION}=", "ablation=", word) for word in job.overrides.task]
    config = compose(words)
    refuse_script_launcher(config)
    with open_dict(config):
        config.run_dir = job.runtime.output_dir
    return run_training(config, words).metrics


def refuse_script_launcher(config: DictConfig) -> None:
    """Refuse several devices a job where Lightning would start the other processes by repeating the command line.

    Inside a multirun each of these would enter the sweep again and train with other settings, without an error.

    Raises:
        UserError: the combination is the dangerous one.
    """
    from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

    trainer = instantiate(config.trainer, logger=False)
    launcher = trainer.strategy.launcher
    repeats = (
        isinstance(launcher, _SubprocessScriptLauncher)
        and not launcher.cluster_environment.creates_processes_externally
    )
    if trainer.num_devices > 1 and repeats:
        raise UserError(
            "multirun with trainer.devices > 1 would train other settings on other devices: set trainer.devices=1, "
            "start each run by torchrun or Slurm, or use trainer.strategy=ddp_spawn"
        )


@contextlib.contextmanager
def _as_hydra_program(words: list[str]) -> Iterator[None]:
    """Hydra's launchers read ``sys.argv``: give them these words; and let Hydra hand errors on instead of exiting."""
    words_before, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["ifmdm train", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = words_before
        del os.environ["HYDRA_FULL_ERROR"]
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error
