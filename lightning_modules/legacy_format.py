"""Configs that name classes by import path, as runs and model folders of before do: read as text, never acted upon."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import file_inside, parse_plain_yaml, read_bounded

_NETWORKS = "lightning_modules.networks."
NAMES = {
    _NETWORKS + "paper_renderer.PaperRenderer": "paper_renderer",
    _NETWORKS + "motion_autoencoder.MotionAutoencoder": "paper_renderer",
    _NETWORKS + "diffusion_transformer.DiffusionTransformer": "diffusion_transformer",
    _NETWORKS + "statistics_estimator.StatisticsEstimator": "statistics_estimator",
    _NETWORKS + "audio_encoder.MelEncoder": "mel_encoder",
    _NETWORKS + "audio_encoder.FeatureProjection": "feature_projection",
    _NETWORKS + "discriminator.Discriminator": "discriminator",
    "metrics.syncnet.SyncNet": "syncnet",
    "metrics.judges.syncnet.SyncNet": "syncnet",
}
"""Class of before -> name in `lightning_modules.networks.registry`. No class is added here any more."""
BUILDER = _NETWORKS + "registry.build_network"
MAX_BYTES = 256 * 1024


def spec_of_config(config: Any) -> dict[str, Any]:
    """Name and arguments of a network out of a resolved config node.

    Args:
        config: Names its class by ``_target_``, or, as configs do now, the registry and a ``name``.

    Raises:
        UserError: The node names anything else.
    """
    if not isinstance(config, Mapping):
        raise UserError("config: names no network")
    target, name = config.get("_target_"), config.get("name")
    if target is not None and target != BUILDER:
        if not isinstance(target, str) or target not in NAMES or name is not None:
            raise UserError(f"config asks for {str(target)[:80]!r}, which is no network of an older version")
        name = NAMES[target]
    spec: dict[str, Any] = {"name": name}
    for key, value in config.items():
        if not isinstance(key, str):
            raise UserError(f"config of a network: {str(key)[:80]!r} is no name of an argument")
        if key not in ("_target_", "name"):
            nested = isinstance(value, Mapping) and not value.keys().isdisjoint(("_target_", "name"))
            spec[key] = spec_of_config(value) if nested else value
    return spec


def settings_of_config(config: Any) -> dict[str, Any]:
    """Arguments of a config node whose class is known otherwise: all but ``_target_``.

    Raises:
        UserError: It is no map of names.
    """
    if not isinstance(config, Mapping) or not all(isinstance(key, str) for key in config):
        raise UserError("config: a map of names and values is missing")
    return {key: value for key, value in config.items() if key != "_target_"}


def read_old_config(folder: Path) -> dict[str, Any]:
    """Read ``config.yaml`` of a folder of before, which may come from a stranger: plain values, nothing else.

    Raises:
        UserError: Missing or damaged, over 256 KB, nested too deeply, with aliases, tags or interpolations.
    """
    path = file_inside(folder, "config.yaml")
    try:
        config = parse_plain_yaml(read_bounded(path, MAX_BYTES))
        if not isinstance(config, dict):
            raise ValueError("no map")
        _check_values(config)
    except ValueError as error:
        raise UserError(f"{path}: can't be read as the config of a run or model ({error})") from error
    return config


def _check_values(value: Any) -> None:
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"holds an interpolation: {value[:40]!r}")
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for item in value:
            _check_values(item)
