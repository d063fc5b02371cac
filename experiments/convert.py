"""Folders of older versions in today's form, for ``ifmdm package --convert``: nothing in them is run."""

import shutil
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import file_inside, whole_folder
from lightning_modules import model_folder
from lightning_modules.audio_frontend import FRONTENDS
from lightning_modules.checkpoints import (
    RECORD_NAME,
    load_basis,
    load_network,
    load_planned,
    network_record,
    plan_named,
    write_json,
    write_network_record,
)
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.legacy_format import read_old_config, settings_of_config, spec_of_config
from lightning_modules.networks.registry import checked_arguments
from metrics.judges.syncnet import EXPERT_CONFIG, EXPERT_FORMAT, EXPERT_NAME, EXPERT_WEIGHTS, load_expert


def convert(old: Path, output: Path) -> str:
    """Write a model folder, a judge of lip sync or a run of an older version anew; weights are copied as they are.

    Args:
        old: The folder, with ``config.yaml``; it may come from a stranger.
        output: Folder to write.

    Returns:
        What was converted, for people.

    Raises:
        UserError: It is none of them, or can't be read, or its weights don't fit its networks.
    """
    for name in (model_folder.CONFIG_NAME, RECORD_NAME):
        if (old / name).is_file():
            raise UserError(f"{old}: holds {name}, so it is in today's form already; use it as it is")
    config = read_old_config(old)
    for key, what, converter in (
        ("networks", "model folder", _convert_model),
        ("region", "sync expert", _convert_sync_expert),
        ("stage", "run (to use and package; it can't be resumed)", _convert_run),
    ):
        if key in config:
            with whole_folder(output) as folder:
                converter(old, config, folder)
                if (old / "README.md").exists():
                    _copy(old, "README.md", folder)
            return what
    raise UserError(f"{old}: its config.yaml is of no model folder, sync expert or run")


def _convert_model(old: Path, config: dict[str, Any], folder: Path) -> None:
    if config.get("format") != 2:
        raise UserError(f"{old}: model folder of format {config.get('format')!r:.20}; 2 can be converted")
    nodes, stages = settings_of_config(config["networks"]), model_folder.STAGES
    if sorted(nodes) != sorted(stages):
        raise UserError(f"{old}: needs the networks {', '.join(stages)}")
    specs = {stage: spec_of_config(nodes[stage]) for stage in stages}
    plans: dict[str, Any] = {stage: plan_named(specs[stage], old) for stage in stages}
    for stage, plan in plans.items():
        load_planned(plan, old, model_folder.weights_name(stage))
        _copy(old, model_folder.weights_name(stage), folder)
    load_basis(plans["autoencoder"].motion_dim, old, model_folder.BASIS_NAME)
    _copy(old, model_folder.BASIS_NAME, folder)
    audio = _audio(config.get("audio"))["name"]
    settings = model_folder.ModelConfig(specs, _diffusion(config.get("diffusion")), audio)
    write_json(folder / model_folder.CONFIG_NAME, settings.as_dict())


def _convert_sync_expert(old: Path, config: dict[str, Any], folder: Path) -> None:
    network = {"name": EXPERT_NAME, **{key: config.get(key) for key in ("width", "size", "region")}}
    plan_named(network, old)
    write_json(folder / EXPERT_CONFIG, {"format": EXPERT_FORMAT, "network": network})
    _copy(old, EXPERT_WEIGHTS, folder)
    load_expert(folder)


def _convert_run(old: Path, config: dict[str, Any], folder: Path) -> None:
    model = settings_of_config(config.get("model"))
    network = plan_named(spec_of_config(model.get("network")), old)
    diffusion = _diffusion(model["diffusion"]) if model.get("diffusion") else None
    audio = _audio(config["audio"]) if config.get("audio") else None
    stage, space = config["stage"], config.get("motion_space")
    if not isinstance(stage, str) or not isinstance(space, str | None):
        raise UserError(f"{old}: its config.yaml is of no run")
    write_network_record(folder, network_record(stage, network, diffusion, audio, space))
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "run.json"):
        if (old / name).exists():
            _copy(old, name, folder)
    load_network(folder)


def _diffusion(config: Any) -> dict[str, Any]:
    """Settings of the diffusion process, checked and completed."""
    settings = checked_arguments(GaussianDiffusion, settings_of_config(config), "diffusion")
    return GaussianDiffusion(**settings).settings()


def _audio(config: Any) -> dict[str, Any]:
    """Name and source of the audio front end, which is not loaded."""
    audio = settings_of_config(config)
    name, source = audio.get("name"), audio.get("source")
    if name not in FRONTENDS or not isinstance(source, str | None):
        raise UserError(f"config: the audio front end must be one of {', '.join(FRONTENDS)}")
    return {"name": name, "source": source}


def _copy(old: Path, name: str, folder: Path) -> None:
    """Copy a regular file of the old folder, content alone."""
    source = file_inside(old, name)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / name)
