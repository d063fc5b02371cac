"""From a waveform to the audio features that are cached: log-mel, or the output of a frozen speech model."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.media.audio import MEL_DIM, log_mel

FRONTENDS = ("mel", "wav2vec2", "hubert")
_PADDING = 40
"""Samples added each side for the speech models: 640 T + 80 give 2 T vectors (window 400, hop 320)."""


class AudioFrontend(nn.Module):
    """Waveform -> features at 50 Hz, two vectors a video frame.

    Args:
        name: ``"mel"`` (stacked log-mel, nothing to download), ``"wav2vec2"`` or ``"hubert"`` (last hidden
            layer of a frozen transformer).
        source: Local folder or hub name of the speech model; unused for ``mel``. Nothing is downloaded unless
            a hub name is given here.

    Raises:
        UserError: If the name is unknown, or a speech model has no source or cannot be read.
    """

    dim: int

    def __init__(self, name: str = "mel", source: str | None = None) -> None:
        super().__init__()
        if name not in FRONTENDS:
            raise UserError(f"audio encoder {name!r} is unknown: use one of {', '.join(FRONTENDS)}")
        self.name = name
        self.source = source
        self.speech_model: nn.Module | None = None
        self.normalise = False
        if name == "mel":
            self.dim = MEL_DIM
            return
        if not source:
            raise UserError(f"audio encoder {name!r} needs a model: give its folder or hub name as source")
        self.speech_model, self.normalise, self.dim = _load_speech_model(name, source)

    def train(self, mode: bool = True) -> "AudioFrontend":
        """Stays in evaluation mode: the speech model is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Computes the features.

        Args:
            waveform: ``(B, 640 T)`` float32 in [-1, 1], 16 kHz mono.

        Returns:
            ``(B, 2T, dim)`` float32.
        """
        if self.speech_model is None:
            return log_mel(waveform)
        if self.normalise:
            # Zero mean and unit variance for each clip, as the speech models were trained.
            mean = waveform.mean(dim=-1, keepdim=True)
            variance = waveform.var(dim=-1, keepdim=True, unbiased=False)
            waveform = (waveform - mean) / torch.sqrt(variance + 1e-7)
        padded = nn.functional.pad(waveform, (_PADDING, _PADDING))
        return self.speech_model(padded).last_hidden_state.float()  # (B, 2T, dim)

    def identity(self) -> str:
        """Name and content of the encoder, for the key of the latent cache."""
        if self.speech_model is None:
            return f"mel-{self.dim}"
        digest = hashlib.sha256(f"normalise={self.normalise}".encode())
        for key, tensor in sorted(self.speech_model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return f"{self.name}-{digest.hexdigest()[:16]}"


def _load_speech_model(name: str, source: str) -> tuple[nn.Module, bool, int]:
    """Frozen model, whether it wants normalised waveforms, and its feature size."""
    from transformers import AutoModel, Wav2Vec2FeatureExtractor

    try:
        model = AutoModel.from_pretrained(source)
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
    return model.eval().requires_grad_(False), bool(normalise), int(model.config.hidden_size)
