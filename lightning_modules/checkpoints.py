"""Networks out of checkpoints and published folders, by their YAML config; nothing is unpickled."""

import hashlib
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datamodules.errors import UserError
from lightning_modules.networks import registry
from lightning_modules.networks.renderer import Renderer

TRUSTED_PACKAGE = "lightning_modules.networks."
"""A config from outside may build the networks that modules of this package define, and nothing else."""


def build_network(config: dict[str, Any]) -> nn.Module:
    """Build a network from a plain config with ``_target_`` entries.

    Raises:
        UserError: a target is no ``nn.Module`` that a module of ``lightning_modules.networks`` defines.
    """
    if "name" in config:
        return registry.build_network(**{k: v for k, v in config.items() if k != "_target_"})
    _check_targets(config)
    return instantiate(config)


def _check_targets(config: Any) -> None:
    if isinstance(config, dict):
        if "_target_" in config and not _is_network(config["_target_"]):
            raise UserError(
                f"model config asks for {config['_target_']}: only lightning_modules.networks may be built"
            )
        for value in config.values():
            _check_targets(value)
    elif isinstance(config, list):
        for value in config:
            _check_targets(value)


def _is_network(target: Any) -> bool:
    """Whether a target names a class where it is defined: what a module merely imported can't be reached."""
    module, _, name = str(target).rpartition(".")
    if not module.startswith(TRUSTED_PACKAGE):
        return False
    try:
        found = vars(import_module(module)).get(name)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module


def find_checkpoint(path: Path | str) -> Path:
    """Checkpoint file of a run: the file itself, or ``checkpoints/best.ckpt``, else ``last.ckpt`` of a run folder.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    raise UserError(
        f"{path}: no checkpoint (expected a .ckpt file or a run folder with checkpoints/last.ckpt)"
    )


def run_config(checkpoint: Path) -> dict[str, Any]:
    """Resolved config of the run that wrote the checkpoint, from ``config.yaml`` in the run folder above it.

    Raises:
        UserError: there is none.
    """
    for folder in checkpoint.resolve().parents[:3]:
        if (folder / "config.yaml").is_file():
            return OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=True)  # type: ignore[return-value]
    raise UserError(f"{checkpoint}: no config.yaml beside it or in the run folder above it")


def load_network(path: Path | str) -> tuple[nn.Module, dict[str, Any], dict[str, Tensor]]:
    """Network, its config and the whole state dict of a training run.

    Args:
        path: a run folder or a checkpoint in one.

    Raises:
        UserError: missing or unreadable files, or weights that don't fit the config.
    """
    checkpoint = find_checkpoint(path)
    config = run_config(checkpoint)["model"]["network"]
    network = build_network(config)
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise UserError(f"{checkpoint}: can't be read as a checkpoint ({type(error).__name__})") from error
    load_state(
        network,
        {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")},
        checkpoint,
    )
    return network.eval(), config, state


def load_state(module: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Load strictly.

    Raises:
        UserError: names or shapes differ.
    """
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{source}: weights don't fit the model config: {first}") from error


def write_weights(path: Path, module: nn.Module, half: bool) -> None:
    """Write a module's state as safetensors, whole or not at all.

    Args:
        path: file to write.
        module: its state is written.
        half: write matrices and kernels as float16 (halves the size), except those with values too large for it. Vectors,
            such as biases and running statistics, are small and keep their precision.
    """

    def stored(value: Tensor) -> Tensor:
        value = value.detach().cpu().contiguous()
        if not half or not value.is_floating_point() or value.ndim < 2:
            return value
        return value.half() if value.half().isfinite().all() else value

    state = {k: stored(v) for k, v in module.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        save_file(state, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read safetensors weights; half-precision values come back as float32.

    Raises:
        UserError: missing or damaged file.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: missing; a model folder holds config.yaml and one model.safetensors per stage"
        )
    try:
        state = load_file(path)
    except Exception as error:  # safetensors' own error class and OSError alike
        raise UserError(f"{path}: damaged safetensors file ({error})") from error
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}


def load_autoencoder(path: Path | str) -> tuple[Renderer, dict[str, Any]]:
    """Trained motion autoencoder of a stage-1 run and its network config.

    Args:
        path: run folder or checkpoint.

    Raises:
        UserError: see ``load_network``, or the run trained something else.
    """
    network, config, _ = load_network(path)
    if not isinstance(network, Renderer):
        raise UserError(
            f"{path}: holds a {type(network).__name__}, expected a motion autoencoder (a stage-1 run)"
        )
    return network, config


def weights_hash(module: nn.Module) -> str:
    """First 16 hex digits of a sha256 over names and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
