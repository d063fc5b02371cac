"""Guidance: pushing a prediction away from what the network says without a condition."""

from torch import Tensor


def guide(
    conditional: Tensor,
    without_audio: Tensor | None = None,
    without_statistics: Tensor | None = None,
    audio_scale: float = 1.0,
    statistics_scale: float = 1.0,
) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598, equation 6), one term for each dropped condition.

    ``conditional + (audio_scale - 1) (conditional - without_audio) + (statistics_scale - 1) (conditional -
    without_statistics)``: a scale of 1 switches a term off, and with a single term this is the usual
    ``dropped + scale (conditional - dropped)``. Valid for every prediction target, as all are linear in the
    predicted data.

    Args:
        conditional: ``(B, T, M)`` output with all conditions.
        without_audio: ``(B, T, M)`` output with the audio dropped; needed for an audio scale other than 1.
        without_statistics: ``(B, T, M)`` output with mean and std dropped; needed for a statistics scale
            other than 1.
        audio_scale: Strength of the speech.
        statistics_scale: Strength of the motion statistics.

    Returns:
        ``(B, T, M)``.
    """
    guided = conditional
    if without_audio is not None:
        guided = guided + (audio_scale - 1) * (conditional - without_audio)
    if without_statistics is not None:
        guided = guided + (statistics_scale - 1) * (conditional - without_statistics)
    return guided
