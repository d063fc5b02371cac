"""Model folders: ``config.json`` of plain values and safetensors, from anyone; a folder can be wrong, but it can't act.

Loads no torch, so that a wrong name is refused at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import file_inside, read_plain_json

PRETRAINED = Path(__file__).resolve().parent / "pretrained"
DEFAULT_MODEL = "synthetic-256"
"""Needs nothing but what is always installed."""
BY_WHISPER = "synthetic-256-whisper"
"""The same renderer; what it says follows people more closely, and needs the extra ``ifmdm[whisper]``."""
CONFIG_NAME = "config.json"
BASIS_NAME = "basis.safetensors"
AUDIO_FOLDER = "audio"
"""Where a folder may hold the speech model that its networks hear by."""
FORMAT = 3
"""Version of the model folder; raised when folders of before can't be loaded any more."""
STAGES = ("autoencoder", "statistics", "diffusion")


def weights_name(stage: str) -> str:
    """Where in a model folder the weights of a stage lie."""
    return f"{stage}/model.safetensors"


@dataclass(frozen=True)
class ModelConfig:
    """What ``config.json`` says.

    Attributes:
        networks: Name and arguments of the network of each stage.
        diffusion: Settings of the diffusion process.
        audio: Name of the audio front end.
        identity: Of its speech model, see `AudioFrontend.identity`; None where there is none, or it is not known.
    """

    networks: dict[str, dict[str, Any]]
    diffusion: dict[str, Any]
    audio: str
    identity: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Content of ``config.json``."""
        audio = {"name": self.audio} | ({} if self.identity is None else {"identity": self.identity})
        return {"format": FORMAT, "networks": self.networks, "diffusion": self.diffusion, "audio": audio}


def is_model(name: Path | str) -> bool:
    """Whether there is such a model folder, or a shipped model of that name."""
    return any((folder / CONFIG_NAME).exists() for folder in (Path(name), PRETRAINED / str(name)))


def resolve_model(name: Path | str) -> Path:
    """Folder of a model: a path, or the name of one that is shipped.

    Raises:
        UserError: Neither, or a folder of an older version.
    """
    for folder in (Path(name), PRETRAINED / str(name)):
        if (folder / CONFIG_NAME).exists():
            return folder
    if (Path(name) / "config.yaml").is_file():
        raise UserError(
            f"{name}: a model folder of an older version, without {CONFIG_NAME}: "
            "make it new by `ifmdm package --convert OLD --output NEW`"
        )
    shipped = sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_NAME}"))
    raise UserError(
        f"{name}: no model folder (with {CONFIG_NAME}) and no shipped model; shipped: {', '.join(shipped) or 'none'}"
    )


def read_model_config(folder: Path) -> ModelConfig:
    """Read ``config.json`` of a model folder.

    Raises:
        UserError: Missing or damaged, of another format, or something lacks or is of another type.
    """
    path = file_inside(folder, CONFIG_NAME)
    values = read_plain_json(path)
    if values.get("format") != FORMAT:
        raise UserError(
            f"{path}: model folder of format {values.get('format')!r:.20}, this version reads {FORMAT}"
        )
    parts: list[Any] = [values.get(key) for key in ("networks", "diffusion", "audio")]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path}: lacks networks, diffusion or audio; is it the config of a model folder?")
    networks, diffusion, audio = parts
    texts = all(isinstance(one, str) for one in audio.values())
    known = texts and sorted(audio) in (["name"], ["identity", "name"])
    if sorted(networks) != sorted(STAGES) or not known:
        raise UserError(
            f"{path}: needs the networks {', '.join(STAGES)} and, of the audio front end, its name, perhaps its identity, "
            "and nothing else"
        )
    return ModelConfig(networks, diffusion, audio["name"], audio.get("identity"))
