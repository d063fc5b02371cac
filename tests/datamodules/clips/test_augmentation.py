import numpy as np
import torch

from datamodules.clips.augmentation import change_voice
from datamodules.media.audio import MEL_BANDS


def test_another_voice_has_its_peaks_elsewhere_and_alike_at_all_moments() -> None:
    peak = torch.zeros(6, 2 * MEL_BANDS)
    peak[:, 40::MEL_BANDS] = 20
    places = []
    for seed in range(12):
        moved = change_voice(peak, np.random.default_rng(seed)).unflatten(1, (2, MEL_BANDS))
        place = moved.argmax(dim=-1)
        assert (place == place[0, 0]).all()
        places.append(int(place[0, 0]))
    assert len(set(places)) > 3
    assert max(abs(place - 40) for place in places) < 16


def test_a_voice_stays_speech_of_the_same_size() -> None:
    mel = torch.from_numpy(np.random.default_rng(0).normal(size=(128, 160))).float()
    one, again, other = (change_voice(mel, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=0.3)
    assert one.shape == mel.shape
    assert one.dtype == torch.float32
    assert torch.isfinite(one).all()
