"""Guidance: pushing a prediction away from what the network says without a condition."""

from torch import Tensor


def guide(
    conditional: Tensor,
    without_audio: Tensor | None = None,
    without_statistics: Tensor | None = None,
    audio_scale: float = 1.0,
    statistics_scale: float = 1.0,
) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598, equation 6), one term for each dropped condition; all ``(B, T, M)``.

    A scale of 1 switches a term off; a single term is the usual ``dropped + scale (conditional - dropped)``. Valid for every
    prediction target, as all are linear in the predicted data.
    """
    guided = conditional
    if without_audio is not None:
        guided = guided + (audio_scale - 1) * (conditional - without_audio)
    if without_statistics is not None:
        guided = guided + (statistics_scale - 1) * (conditional - without_statistics)
    return guided
