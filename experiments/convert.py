"""Folders of older versions in today's form, for ``ifmdm package --convert``: nothing in them is run."""

import shutil
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import file_inside, whole_folder


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
    from lightning_modules.old_configs import read_old_config

    config = read_old_config(old)
    for key, what, converter in (
        ("networks", "model folder", _convert_model),
        ("region", "sync expert", _convert_sync_expert),
        ("stage", "run", _convert_run),
    ):
        if key in config:
            with whole_folder(output) as folder:
                converter(old, config, folder)
                if (old / "README.md").exists():
                    _copy(old, "README.md", folder)
            return what
    raise UserError(f"{old}: its config.yaml is of no model folder, sync expert or run")


def _convert_model(old: Path, config: dict[str, Any], folder: Path) -> None:
    from lightning_modules.checkpoints import build_named, load_weights, write_json
    from lightning_modules.generation.model_folder import (
        BASIS_NAME,
        CONFIG_NAME,
        STAGES,
        ModelConfig,
        weights_name,
    )
    from lightning_modules.networks.motion_basis import MotionBasis
    from lightning_modules.old_configs import settings_of_config, spec_of_config

    if config.get("format") != 2:
        raise UserError(f"{old}: model folder of format {config.get('format')!r:.20}; 2 can be converted")
    nodes = settings_of_config(config["networks"])
    if sorted(nodes) != sorted(STAGES):
        raise UserError(f"{old}: needs the networks {', '.join(STAGES)}")
    specs = {stage: spec_of_config(nodes[stage]) for stage in STAGES}
    networks: dict[str, Any] = {stage: build_named(specs[stage], old) for stage in STAGES}
    for stage in STAGES:
        load_weights(networks[stage], old, weights_name(stage))
        _copy(old, weights_name(stage), folder)
    load_weights(MotionBasis(networks["autoencoder"].motion_dim), old, BASIS_NAME)
    _copy(old, BASIS_NAME, folder)
    audio = _audio(config.get("audio"))
    write_json(
        folder / CONFIG_NAME, ModelConfig(specs, _diffusion(config.get("diffusion")), audio["name"]).as_dict()
    )


def _convert_sync_expert(old: Path, config: dict[str, Any], folder: Path) -> None:
    from lightning_modules.checkpoints import build_named, write_json
    from metrics.judges.syncnet import EXPERT_CONFIG, EXPERT_FORMAT, EXPERT_NAME, EXPERT_WEIGHTS, load_expert

    network = {"name": EXPERT_NAME, **{key: config.get(key) for key in ("width", "size", "region")}}
    build_named(network, old)
    write_json(folder / EXPERT_CONFIG, {"format": EXPERT_FORMAT, "network": network})
    _copy(old, EXPERT_WEIGHTS, folder)
    load_expert(folder)


def _convert_run(old: Path, config: dict[str, Any], folder: Path) -> None:
    from lightning_modules.checkpoints import build_named, load_network, write_network_record
    from lightning_modules.old_configs import settings_of_config, spec_of_config

    model = settings_of_config(config.get("model"))
    network = build_named(spec_of_config(model.get("network")), old)
    diffusion = _diffusion(model["diffusion"]) if model.get("diffusion") else None
    audio = _audio(config["audio"]) if config.get("audio") else None
    stage, space = config["stage"], config.get("motion_space")
    if not isinstance(stage, str) or not isinstance(space, str | None):
        raise UserError(f"{old}: its config.yaml is of no run")
    write_network_record(folder, stage, network, diffusion, audio, space)
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "run.json"):
        if (old / name).exists():
            _copy(old, name, folder)
    load_network(folder)


def _diffusion(config: Any) -> dict[str, Any]:
    """Settings of the diffusion process, checked and completed."""
    from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
    from lightning_modules.networks.registry import checked_arguments
    from lightning_modules.old_configs import settings_of_config

    return GaussianDiffusion(
        **checked_arguments(GaussianDiffusion, settings_of_config(config), "diffusion")
    ).settings()


def _audio(config: Any) -> dict[str, Any]:
    """Name and source of the audio front end, which is not loaded."""
    from lightning_modules.audio_frontend import FRONTENDS
    from lightning_modules.old_configs import settings_of_config

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
