"""From a waveform to the audio features that are cached: log-mel, or the output of a frozen speech model."""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.files import file_inside, read_plain_json, require_shapes, tensor_shapes
from datamodules.media.audio import MEL_DIM, in_chunks, log_mel
from lightning_modules.networks.registry import MAX_NUMBER, MAX_NUMBERS, MAX_PARAMETERS
from metrics.judges.whisper import Whisper

LAYERS = "_layers"
"""End of the name of a front end that gives the hidden states of all layers, one behind the other."""
FRONTENDS = ("mel", "wav2vec2", "hubert", f"wav2vec2{LAYERS}", f"hubert{LAYERS}", "whisper")
HOP = 320
"""Samples that the speech models go on by for each vector."""
CHUNK = 1500
"""Frames of speech, a minute, that are listened to at once."""
CONTEXT = 125
"""Frames of speech before and after a chunk that a speech model hears, too."""
OPTION = "--speech-model (speech_model= of evaluate and sweep)"
"""How a user names a speech model."""
_PADDING = 40
"""Samples added each side for the speech models: 640 T + 80 give 2 T vectors (window 400, hop 320)."""


class AudioFrontend(nn.Module):
    """Waveform -> features at 50 Hz, two vectors a video frame.

    Args:
        name: ``mel`` (stacked log-mel, nothing to download), ``wav2vec2`` or ``hubert`` (last hidden layer of a frozen
            transformer), ``wav2vec2_layers`` or ``hubert_layers`` (the vectors before its first and after each of its
            layers, each of zero mean and unit variance, one behind the other, for `FeatureProjection` to mix), or
            ``whisper`` (see `Whisper`).
        source: Local folder or hub name of the speech model. Nothing is downloaded unless a hub name is given here. Whisper
            needs none where the package of its tiny model is installed.
        own: Whether ``source`` is the folder ``audio`` of a model folder, which may come from a stranger.

    Raises:
        UserError: If the name is unknown, or a speech model has no source or cannot be read.
    """

    def __init__(self, name: str = "mel", source: str | None = None, own: bool = False) -> None:
        super().__init__()
        if name not in FRONTENDS:
            raise UserError(f"audio front end {name!r:.40} is unknown: use one of {', '.join(FRONTENDS)}")
        if name != "mel" and source is not None and source.startswith(("/", ".", "~")):
            folder = Path(source).expanduser()
            if not folder.is_dir():
                raise UserError(f"speech model {source}: there is no such folder; give one, or a hub name")
            source = str(folder)
        self.name, self.source = name, source
        self.speech_model: Any = None
        self.normalise, self.dim = False, MEL_DIM
        if name == "whisper":
            self.speech_model = Whisper(source)
            self.dim = self.speech_model.dim
        elif name != "mel":
            if not source:
                raise UserError(
                    f"audio front end {name!r} needs a model: give its folder or hub name as source"
                )
            load = _load_own_speech_model if own else _load_named_speech_model
            model, self.normalise = load(name.removesuffix(LAYERS), source)
            self.speech_model = model.eval().requires_grad_(False)
            count = model.config.num_hidden_layers + 1 if name.endswith(LAYERS) else 1
            self.dim = count * int(model.config.hidden_size)

    def train(self, mode: bool = True) -> "AudioFrontend":
        """Stays in evaluation mode: the speech model is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Features ``(B, 2T, dim)`` float32 of ``waveform (B, 640 T)`` float32 in [-1, 1], 16 kHz mono.

        Speech of over a minute goes through in chunks with 5 s of context, so that memory beside its features doesn't grow
        with it. Log-mel is the same to rounding. A speech model attends to all that it is given: its features differ from
        those of the whole by under 1 % (root mean square; 0.3 % measured with random weights, trained ones not measured).
        Whisper has no whole of over 30 s, and its vectors depend on where in it they are (see there).
        """
        if self.normalise:
            # Zero mean and unit variance for each clip, as the speech models were trained.
            mean = waveform.mean(dim=-1, keepdim=True)
            variance = waveform.var(dim=-1, keepdim=True, unbiased=False)
            waveform = (waveform - mean) / torch.sqrt(variance + 1e-7)
        if self.name == "whisper":
            return self.speech_model(waveform)  # in chunks of its own
        context = 1 if self.speech_model is None else CONTEXT  # log-mel hears 120 samples further
        return in_chunks(self._features, waveform, CHUNK, context)

    def _features(self, waveform: Tensor) -> Tensor:
        if self.speech_model is None:
            return log_mel(waveform)
        padded = nn.functional.pad(waveform, (_PADDING, _PADDING))
        if self.name.endswith(LAYERS):
            found = self.speech_model(padded, output_hidden_states=True)
            states = [*found.hidden_states[:-1], found.last_hidden_state]  # the last as others give it
            normed = [nn.functional.layer_norm(one.float(), one.shape[-1:]) for one in states]
            return torch.cat(normed, dim=-1)  # (B, 2T, dim)
        return self.speech_model(padded).last_hidden_state.float()  # (B, 2T, dim)

    def identity(self) -> str:
        """Name and content of the encoder, for the key of the latent cache."""
        if self.speech_model is None:
            return f"mel-{self.dim}"
        if self.name == "whisper":
            return f"whisper-{self.speech_model.sha256[:16]}"
        digest = hashlib.sha256(f"normalise={self.normalise}".encode())
        for key, tensor in sorted(self.speech_model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return f"{self.name}-{digest.hexdigest()[:16]}"


def load_frontend(
    name: str, folder: Path, speech_model: Path | str | None = None, identity: str | None = None
) -> AudioFrontend:
    """Front end of a model folder that may come from a stranger, by its name alone.

    Args:
        name: As `AudioFrontend` takes it.
        folder: Where the model folder may hold its speech model; read only if it holds nothing but plain values and
            safetensors.
        speech_model: Folder or hub name that the user gave.
        identity: Of the front end that the networks were trained by, where it is known.

    Raises:
        UserError: The name is unknown, there is no such speech model that may be read, or it is another than in training.
    """
    frontend = _frontend_of(name, folder, speech_model)
    if identity is not None and frontend.identity() != identity:
        way = f"name its folder or hub name by {OPTION}"
        if name == "whisper":
            way += "; if it is the package's, install `ifmdm[whisper]` anew and leave that out"
        raise UserError(
            f"{folder.parent}: was trained by the speech model {identity!r:.60}, not by "
            f"{speech_model or 'that at hand'} ({frontend.identity()}): {way}"
        )
    return frontend


def _frontend_of(name: str, folder: Path, speech_model: Path | str | None) -> AudioFrontend:
    if name == "mel" and speech_model is not None:
        raise UserError(f"{folder.parent}: hears by log-mel, not by a speech model: leave --speech-model out")
    if name not in FRONTENDS or name == "mel" or speech_model is not None:
        return AudioFrontend(name, None if speech_model is None else str(speech_model))
    if name == "whisper":  # the package's, which is nobody's to change
        return AudioFrontend(name)
    if not folder.exists():
        raise UserError(
            f"{folder.parent}: hears by a {name.removesuffix(LAYERS)} model, which is not in it: name its folder or hub "
            f"name by {OPTION}, or put its files into {folder}"
        )
    return AudioFrontend(name, str(folder), own=True)


def _load_named_speech_model(name: str, source: str) -> tuple[Any, bool]:
    """A speech model of the user's choice, and whether it wants normalised waveforms; code beside it is never run."""
    from transformers import AutoModel, Wav2Vec2FeatureExtractor

    try:
        model = AutoModel.from_pretrained(source, trust_remote_code=False, attn_implementation="sdpa")
        # The models of both families were trained on normalised waveforms unless their files say otherwise.
        described = not Path(source).is_dir() or (Path(source) / "preprocessor_config.json").is_file()
        normalise = Wav2Vec2FeatureExtractor.from_pretrained(source).do_normalize if described else True
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot read the {name} model {source!r}: {reason}") from error
    if model.config.model_type != name:
        raise UserError(
            f"{source!r} holds a {model.config.model_type} model, not {name}: change one of the two"
        )
    return model, bool(normalise)


PREPROCESSOR = "preprocessor_config.json"
SPEECH_MODEL_FILES = ("config.json", "model.safetensors", PREPROCESSOR)
"""The files of a speech model inside a model folder; the last one may be absent."""
ARCHITECTURE = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("conv_dim", "conv_stride", "conv_kernel", "conv_bias", "feat_extract_norm", "feat_extract_activation"),
    *("feat_proj_layer_norm", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups"),
    *("conv_pos_batch_norm", "do_stable_layer_norm", "layer_norm_eps", "vocab_size"),
)
"""The values of its ``config.json`` that are read. All others - names of code, kernels, adapters - are not."""


def _load_own_speech_model(name: str, source: str) -> tuple[Any, bool]:
    """The speech model inside a model folder: plain values and safetensors, nothing else, nothing from elsewhere."""
    import transformers

    folder = Path(source)
    if not folder.resolve().is_relative_to(folder.parent.resolve()) or not folder.is_dir():
        raise UserError(f"{folder}: is no folder inside its model folder")
    names = {path.name for path in folder.iterdir()}
    if strange := sorted(names - set(SPEECH_MODEL_FILES)):
        raise UserError(
            f"{folder}: holds {strange[0]!r:.80}; a speech model is {', '.join(SPEECH_MODEL_FILES)}"
        )
    for file in names | {"config.json", "model.safetensors"}:
        file_inside(folder, file)
    values = read_plain_json(folder / "config.json")
    if values.get("model_type") != name:
        raise UserError(f"{folder}: holds a {values.get('model_type')!r:.40} model, not {name}")
    kept = {key: values[key] for key in ARCHITECTURE if key in values}
    numbers = [n for value in kept.values() for n in (value if isinstance(value, list) else [value])]
    layers = kept.get("num_hidden_layers", 0)
    deep = isinstance(layers, int | float) and layers > MAX_NUMBERS["depth"]
    wide = any(isinstance(n, int | float) and not 0 <= n <= MAX_NUMBER for n in numbers)
    if deep or wide or len(numbers) > 100:
        raise UserError(f"{folder}: a speech model of absurd size")
    kind = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert"}[name]
    model_class = getattr(transformers, f"{kind}Model")
    try:
        config = getattr(transformers, f"{kind}Config")(**kept)
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            plan = model_class(config)
        _check_speech_model(plan, folder)
        model = model_class.from_pretrained(
            source, config=config, local_files_only=True, use_safetensors=True
        )
    except UserError:
        raise
    except Exception as error:  # values of wrong types and damaged files raise half a dozen kinds
        raise UserError(f"{folder}: can't be read as a {name} model ({type(error).__name__})") from error
    described = read_plain_json(folder / PREPROCESSOR) if PREPROCESSOR in names else {}
    return model, described.get("do_normalize") is not False


def _check_speech_model(plan: Any, folder: Path) -> None:
    """Refuse a speech model, planned without memory, of another pace, of absurd size, or without all of its weights.

    Weights beside the model's own, such as those of a recogniser, are left alone.

    Raises:
        UserError: One of these.
    """
    length = 2 * HOP + 2 * _PADDING  # samples of one frame, which must give two vectors
    for kernel, stride in zip(plan.config.conv_kernel, plan.config.conv_stride, strict=True):
        length = (length - kernel) // stride + 1
    if math.prod(plan.config.conv_stride) != HOP or length != 2:
        raise UserError(f"{folder}: its speech model gives no vector for every {HOP} samples")
    wanted = {name: value.shape for name, value in plan.state_dict().items()}
    if (count := sum(value.numel() for value in wanted.values())) > MAX_PARAMETERS:
        raise UserError(
            f"{folder}: its speech model has {count:,} weights; at most {MAX_PARAMETERS:,} are built"
        )
    weights = folder / "model.safetensors"
    found = {
        _todays_name(key, plan.base_model_prefix): shape for key, shape in tensor_shapes(weights).items()
    }
    require_shapes({key: shape for key, shape in found.items() if key in wanted}, wanted, weights)


def _todays_name(key: str, prefix: str) -> str:
    """Name of a weight in the bare model: files of whole recognisers and of older versions name it otherwise."""
    key = key.removeprefix(f"{prefix}.")
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if key.endswith(f".conv.{old}"):
            return f"{key.removesuffix(old)}parametrizations.weight.{new}"
    return key
