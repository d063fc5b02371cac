"""Networks out of run folders and model folders: tensors and plain values, networks by name; nothing is unpickled or acts."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.files import file_inside, read_plain_json, whole_output
from lightning_modules.networks.registry import build_network, network_spec
from lightning_modules.networks.renderer import Renderer
from lightning_modules.old_configs import settings_of_config, spec_of_config

RECORD_NAME = "network.json"
RECORD_FORMAT = 1


@dataclass(frozen=True)
class NetworkRecord:
    """What ``network.json`` of a run folder says: all that a program reads back of a run beside its checkpoint.

    Attributes:
        stage: ``autoencoder``, ``statistics``, ``diffusion`` or ``sync``.
        network: Name and arguments of the network (see `build_network`).
        diffusion: Settings of the diffusion process, of stage ``diffusion``.
        audio: Name and source of the audio front end, of the stages that are driven by audio.
        motion_space: Hash of the autoencoder whose motion the stage was trained on.
    """

    stage: str
    network: dict[str, Any]
    diffusion: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    motion_space: str | None = None


def network_record(
    stage: str,
    network: nn.Module | Mapping[str, Any],
    diffusion: Mapping[str, Any] | None = None,
    audio: Mapping[str, Any] | None = None,
    motion_space: str | None = None,
) -> NetworkRecord:
    """What ``network.json`` will say of a network; the values are those of `NetworkRecord`.

    The network may be one that `build_network` built, or its resolved config; diffusion settings may be a resolved config.

    Raises:
        UserError: The network was built in another way.
    """
    spec = network_spec(network) if isinstance(network, nn.Module) else spec_of_config(network)
    plain = None if audio is None else {"name": audio["name"], "source": audio.get("source")}
    settings = None if diffusion is None else settings_of_config(diffusion)
    return NetworkRecord(stage, spec, settings, plain, motion_space)


def write_network_record(run_dir: Path, record: NetworkRecord) -> Path:
    """Write ``network.json`` into a run folder."""
    return write_json(Path(run_dir) / RECORD_NAME, {"format": RECORD_FORMAT, **asdict(record)})


def write_json(path: Path, value: dict[str, Any]) -> Path:
    """Write plain values, whole or not at all."""
    with whole_output(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def find_checkpoint(path: Path | str) -> Path:
    """Checkpoint file of a run: the file itself, or ``checkpoints/best.ckpt``, else ``last.ckpt`` of a run folder.

    Raises:
        UserError: There is none, or a link that leads out of the run folder.
    """
    path = Path(path)
    if path.is_file():
        return path
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        if (path / name).exists():
            return file_inside(path, name)
    raise UserError(
        f"{path}: no checkpoint (expected a .ckpt file or a run folder with checkpoints/last.ckpt)"
    )


def read_network_record(path: Path | str) -> NetworkRecord:
    """What ``network.json`` says that lies beside a checkpoint, or in the run folder above it.

    Raises:
        UserError: There is none, or it is no such record.
    """
    checkpoint = find_checkpoint(path).resolve()
    for folder in checkpoint.parents[:2]:
        if (folder / RECORD_NAME).is_symlink() or (folder / RECORD_NAME).exists():
            return _record(file_inside(folder, RECORD_NAME))
    if any((folder / "config.yaml").is_file() for folder in checkpoint.parents[:2]):
        raise UserError(
            f"{path}: a run of an older version, without {RECORD_NAME}: "
            "make it new by `ifmdm package --convert OLD --output NEW`"
        )
    raise UserError(f"{checkpoint}: no {RECORD_NAME} beside it or in the run folder above it")


def _record(path: Path) -> NetworkRecord:
    values = read_plain_json(path)
    if repr(values.pop("format", None)) != str(RECORD_FORMAT):  # true would equal 1
        raise UserError(f"{path}: is no record of format {RECORD_FORMAT}, which this version reads")
    try:
        record = NetworkRecord(**values)
    except TypeError as error:
        raise UserError(f"{path}: is no record of a trained network ({error})") from error
    texts, maps = (record.stage, record.motion_space or ""), (record.network, record.diffusion, record.audio)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(m, dict | None) for m in maps):
        raise UserError(f"{path}: a value is of another type than a record's")
    return record


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Content of a checkpoint, or a run folder's, on the CPU: tensors and plain values.

    Raises:
        UserError: Missing or damaged, or it holds anything else.
    """
    checkpoint = find_checkpoint(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on strange pickles, which are refused anyway
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if not all(isinstance(value, Tensor) for value in content["state_dict"].values()):
            raise TypeError("its state holds other things than tensors")
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise UserError(f"{checkpoint}: can't be read as a checkpoint ({type(error).__name__})") from error
    return content


def load_network(path: Path | str) -> tuple[nn.Module, dict[str, Any], dict[str, Tensor]]:
    """Network, its spec and the whole state dict of a run folder or a checkpoint in one.

    Raises:
        UserError: Missing or unreadable files, or weights that don't fit the network.
    """
    network = build_named(read_network_record(path).network, path)
    state: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    load_state(network, part_of(state, "network."), find_checkpoint(path))
    return network.eval(), network_spec(network), state


def load_autoencoder(path: Path | str) -> tuple[Renderer, dict[str, Any]]:
    """Trained motion autoencoder of a run folder or checkpoint of stage 1, and its network's spec.

    Raises:
        UserError: See ``load_network``, or the run trained something else.
    """
    stage = read_network_record(path).stage
    if stage != "autoencoder":
        raise UserError(f"{path}: is a run of stage {stage!r:.40}, expected a motion autoencoder (stage 1)")
    network, spec, _ = load_network(path)
    if not isinstance(network, Renderer):
        raise UserError(f"{path}: its network {spec['name']} renders nothing: it is no motion autoencoder")
    return network, spec


def build_named(spec: Any, source: Path | str) -> nn.Module:
    """Build a network of the name and arguments that a file, ``source``, gave.

    Raises:
        UserError: No such network or arguments.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise UserError(f"{source}: names no network")
    try:
        return build_network(**spec)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of a state dict below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_state(module: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Load strictly.

    Raises:
        UserError: Names or shapes differ.
    """
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{source}: weights don't fit the network: {first[:200]}") from error


def write_weights(path: Path, module: nn.Module, half: bool) -> None:
    """Write a module's state as safetensors, whole or not at all.

    With ``half`` matrices and kernels become float16 (half the size), except those with values too large for it. Vectors,
    such as biases and running statistics, are small and keep their precision.
    """

    def stored(value: Tensor) -> Tensor:
        value = value.detach().cpu().contiguous()
        if not half or not value.is_floating_point() or value.ndim < 2:
            return value
        return value.half() if value.half().isfinite().all() else value

    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_output(path) as temporary:
        save_file({name: stored(value) for name, value in module.state_dict().items()}, temporary)


def load_weights(module: nn.Module, folder: Path, name: str) -> None:
    """Load a safetensors file ``name`` of a model folder into a module; half-precision values come back as float32.

    Names and shapes are compared before any tensor is read.

    Raises:
        UserError: Missing or damaged file, a link out of the folder, or weights that don't fit the module.
    """
    path = file_inside(folder, name)
    wanted = {name: list(value.shape) for name, value in module.state_dict().items()}
    try:
        with safe_open(path, framework="pt") as file:
            found = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - it is no mapping
            for key in sorted(wanted.keys() | found.keys()):
                if wanted.get(key) != found.get(key):
                    raise UserError(
                        f"{path}: weights don't fit the network: {key!r:.80} is {found.get(key, 'missing')}, "
                        f"expected {wanted.get(key, 'none')}"
                    )
            state = {key: file.get_tensor(key) for key in found}
    except UserError:
        raise
    except Exception as error:  # safetensors' own error class and OSError alike
        raise UserError(f"{path}: damaged safetensors file ({error})") from error
    load_state(module, {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}, path)


def weights_hash(module: nn.Module) -> str:
    """First 16 hex digits of a sha256 over names and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
