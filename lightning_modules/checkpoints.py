"""Networks out of run folders and model folders: tensors and plain values, networks by name; nothing is unpickled or acts."""

import hashlib
import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.files import file_inside, read_plain_json, require_shapes, tensor_shapes, whole_output
from lightning_modules.checkpoint_content import strange_names, tensors_of
from lightning_modules.model_folder import (
    BASIS_NAME,
    STAGES,
    is_model,
    read_model_config,
    resolve_model,
    weights_name,
)
from lightning_modules.networks.base_renderer import Renderer
from lightning_modules.networks.motion_basis import MotionBasis
from lightning_modules.networks.registry import build_network, network_spec, plan_network
from lightning_modules.weights import load_state, load_weights, part_of

RECORD_NAME = "network.json"
RECORD_FORMAT = 1
MAX_UNSAVED = 2**22
"""Numbers of a network that no file of weights holds, such as a table of positions."""


@dataclass(frozen=True)
class NetworkRecord:
    """What ``network.json`` of a run folder says: all that a program reads back of a run beside its checkpoint.

    Attributes:
        stage: ``autoencoder``, ``statistics``, ``diffusion`` or ``sync``.
        network: Name and arguments of the network (see `build_network`).
        diffusion: Settings of the diffusion process, of stage ``diffusion``.
        audio: Name, source and, where known, identity of the audio front end, of the stages that are driven by audio.
        motion_space: Of the autoencoder whose motion the stage was trained on, see `motion_space_of`.
    """

    stage: str
    network: dict[str, Any]
    diffusion: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    motion_space: str | None = None


def network_record(
    stage: str,
    network: nn.Module,
    diffusion: dict[str, Any] | None = None,
    audio: Mapping[str, Any] | None = None,
    motion_space: str | None = None,
) -> NetworkRecord:
    """What ``network.json`` will say of a network; of the audio front end its name, source and identity alone.

    Raises:
        UserError: The network was not built by `build_network`.
    """
    keys = ("name", "source", "identity")
    plain = None if audio is None else {key: audio[key] for key in keys if key in audio}
    return NetworkRecord(stage, network_spec(network), diffusion, plain, motion_space)


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


def find_weights(source: Path | str, stage: str) -> Path:
    """File with the weights of a stage: of a model folder or shipped model, else of a run, see `find_checkpoint`.

    Raises:
        UserError: There is none.
    """
    if not is_model(source):
        return find_checkpoint(source)
    if stage not in STAGES:
        raise UserError(f"{source}: a model folder holds no stage {stage!r:.40}, only {', '.join(STAGES)}")
    folder = resolve_model(source)
    file_inside(folder, weights_name(stage))
    return folder / weights_name(stage)


def read_network_record(path: Path | str) -> NetworkRecord:
    """What ``network.json`` of a run folder or checkpoint, or the model folder of a file of weights, says of the network.

    Raises:
        UserError: There is none, or no such record.
    """
    if (path := Path(path)).suffix != ".safetensors":
        return _record(find_record(path))
    folder, stage = path.absolute().parents[1], path.parent.name
    if stage not in STAGES:
        raise UserError(f"{path}: lies in no model folder, as STAGE/{path.name}")
    config = read_model_config(folder)
    diffusion, audio, space = config.diffusion if stage == "diffusion" else None, None, None
    if stage != "autoencoder":
        audio = {"name": config.audio, "source": None, "identity": config.identity}
        space = motion_space_of(load_autoencoder(folder)[0])
    return NetworkRecord(stage, config.networks[stage], diffusion, audio, space)


def find_record(path: Path | str) -> Path:
    """The ``network.json`` that lies beside a checkpoint, or in the run folder above it; UserError where there is none."""
    checkpoint = find_checkpoint(path).resolve()
    for folder in checkpoint.parents[:2]:
        if (folder / RECORD_NAME).is_symlink() or (folder / RECORD_NAME).exists():
            return file_inside(folder, RECORD_NAME)
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
    _require_stored(checkpoint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on strange pickles, which are refused anyway
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if not all(isinstance(value, Tensor) for value in content["state_dict"].values()):
            raise TypeError("its state holds other things than tensors")
        tensors = tensors_of(content)
        if not all(value.layout == torch.strided and value.device.type == "cpu" for value in tensors):
            raise TypeError("its tensors have no values")
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise _unreadable(checkpoint, error) from error
    if sum(value.numel() * value.element_size() for value in tensors) > checkpoint.stat().st_size:
        raise UserError(f"{checkpoint}: its tensors share their values: it is no checkpoint of this program")
    return content


def _unreadable(checkpoint: Path, error: Exception) -> UserError:
    told = f"can't be read as a checkpoint ({type(error).__name__}); it is damaged, or something else"
    return UserError(f"{checkpoint}: {told}: {other_checkpoint(checkpoint)}")


def other_checkpoint(path: Path) -> str:
    """What to do about a checkpoint that is of no use: take another one of its run, if there is one."""
    others = (path.with_name(f"{name}.ckpt") for name in ("best", "last"))
    return next((f"try {one}" for one in others if one != path and one.is_file()), "get or train it again")


def _require_stored(path: Path) -> None:
    """Refuse what unpacks to more than the file, or to other bytes: ``torch.save`` writes a zip file and compresses nothing.

    Raises:
        UserError: No zip file, or one with compressed, overlapping or damaged members, or with something before the first;
            or its pickle calls what no checkpoint does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _require_plain(path, members)
            damaged = archive.testzip()  # by their checksums, which torch does not look at: 0.03 s for 40 MB
            pickles = [member for member in members if member.filename.lower().endswith(".pkl")]
            strange = [name for member in pickles for name in strange_names(archive.read(member))]
    except UserError:
        raise
    except Exception as error:  # zipfile, too, raises half a dozen kinds
        raise _unreadable(path, error) from error
    if damaged is not None:
        raise UserError(f"{path}: is damaged: {damaged} is not what was written; {other_checkpoint(path)}")
    if strange:
        raise UserError(f"{path}: calls {strange[0]!r:.60}: it is no checkpoint of this program")


def _require_plain(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    stored = all(m.compress_type == zipfile.ZIP_STORED and m.compress_size == m.file_size for m in members)
    # Where something lies before the first member, torch could find another directory than zipfile does.
    first = min((member.header_offset for member in members), default=None)
    if not stored or first != 0 or sum(member.file_size for member in members) > path.stat().st_size:
        raise UserError(f"{path}: holds compressed or overlapping data: it is no checkpoint of this program")


def load_network(path: Path | str) -> tuple[nn.Module, dict[str, Any], dict[str, Tensor]]:
    """Network, its spec and the whole state dict of a run folder, a checkpoint in one, or a model folder's file of weights.

    Of a model folder the state is that of the network and the motion basis, named as in a checkpoint.

    Raises:
        UserError: Missing or unreadable files, or weights that don't fit the network.
    """
    if (path := Path(path)).suffix == ".safetensors":
        return _load_published(path)
    record, checkpoint = find_record(path), find_checkpoint(path)
    plan = plan_named(_record(record).network, record)
    state: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    own = part_of(state, "network.")
    _require_fit(plan, {name: value.shape for name, value in own.items()}, checkpoint)
    network = build_network(**network_spec(plan))
    load_state(network, own, checkpoint)
    return network.eval(), network_spec(network), state


def _load_published(path: Path) -> tuple[nn.Module, dict[str, Any], dict[str, Tensor]]:
    record, folder = read_network_record(path), path.absolute().parents[1]
    network: Any = load_planned(plan_named(record.network, folder), folder, weights_name(record.stage))
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    if record.stage != "autoencoder":
        basis = load_basis(network.motion_dim, folder, BASIS_NAME)
        state |= {f"basis.{name}": value for name, value in basis.state_dict().items()}
    return network.eval(), network_spec(network), state


def load_autoencoder(source: Path | str) -> tuple[Renderer, dict[str, Any]]:
    """Trained motion autoencoder, and its network's spec, of whatever `find_weights` finds.

    Raises:
        UserError: See ``load_network``, or it is something else.
    """
    path = find_weights(source, "autoencoder")
    stage = read_network_record(path).stage
    if stage != "autoencoder":
        raise UserError(f"{path}: is a run of stage {stage!r:.40}, expected a motion autoencoder (stage 1)")
    network, spec, _ = load_network(path)
    if not isinstance(network, Renderer):
        raise UserError(f"{path}: its network {spec['name']} renders nothing: it is no motion autoencoder")
    return network, spec


def plan_named(spec: Any, source: Path | str) -> nn.Module:
    """A network of the name and arguments that a file, ``source``, gave, without memory: see `plan_network`.

    Raises:
        UserError: No such network or arguments.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise UserError(f"{source}: says no network; it needs a map with its name, such as 'paper_renderer'")
    try:
        return plan_network(**spec)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def load_planned(plan: nn.Module, folder: Path, name: str) -> nn.Module:
    """Build a planned network and load its weights; a few numbers of a config take no memory that no weights back.

    Raises:
        UserError: See `load_weights`; found before anything is built.
    """
    path = file_inside(folder, name)
    _require_fit(plan, tensor_shapes(path), path)
    network = build_network(**network_spec(plan))
    load_weights(network, folder, name)
    return network


def load_basis(motion_dim: int, folder: Path, name: str) -> MotionBasis:
    """Load a motion basis out of a safetensors file ``name`` of a folder.

    Raises:
        UserError: See `load_weights`, or its blocks don't fit the motion.
    """
    path = file_inside(folder, name)
    found = tensor_shapes(path)
    with torch.device("meta"):
        plan = MotionBasis(motion_dim, "bend" in found)
    _require_fit(plan, found, path)
    basis = MotionBasis(motion_dim, plan.bent)
    load_weights(basis, folder, name)
    sizes = basis.sizes.tolist()
    if min(sizes) < 0 or sum(sizes) > motion_dim:
        raise UserError(f"{path}: its blocks of sizes {sizes} don't fit the motion")
    if basis.bent and not 0 < float(basis.bend) < 1:
        raise UserError(f"{path}: its bend is {float(basis.bend):g}, not a number between 0 and 1")
    return basis


def _require_fit(plan: nn.Module, found: Mapping[str, Sequence[int]], path: Path) -> None:
    """Refuse weights, name -> shape, that don't fit a planned network, or one that is large beside its weights."""
    wanted = plan.state_dict()
    require_shapes(found, {name: value.shape for name, value in wanted.items()}, path)
    unsaved = sum(value.numel() for name, value in plan.named_buffers() if name not in wanted)
    if unsaved > MAX_UNSAVED:
        raise UserError(
            f"{path}: its network holds {unsaved:,} numbers beside its weights: that is too large"
        )


def motion_space_of(renderer: Renderer) -> str:
    """Hash of all that a renderer's latents depend on: stages 2 and 3 belong to every renderer with the same."""
    parts = renderer.latent_parts()
    if len(parts) == 1:
        return weights_hash(parts[0])
    return hashlib.sha256(" ".join(map(weights_hash, parts)).encode()).hexdigest()[:16]


def weights_hash(module: nn.Module) -> str:
    """First 16 hex digits of a sha256 over names and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
