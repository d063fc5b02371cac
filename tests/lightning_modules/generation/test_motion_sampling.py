"""Motion of speech of any length, window after window."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from datamodules.batches import window_starts
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.generation.motion_sampling import no_statistics, sample_motion, speech_seed
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.networks.registry import build_network, network_spec

HINT = torch.linspace(-1, 1, 20)[None]


def sample(model: TalkingHead, features: int = 300, **options) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    audio = torch.randn(1, features, 160, generator=draw)
    given = {"diffusion": model.diffusion, "audio": audio, "hint": HINT, "generator": draw}
    return sample_motion(model.denoiser, **given | options)


def test_windows_are_chained_by_the_hint_and_statistics(model, monkeypatch):
    hints, seen = [], []
    embed = model.denoiser.embed

    def spy(audio, hint, *rest):
        hints.append(hint)
        return embed(audio, hint, *rest)

    def statistics(start, so_far):
        seen.append((start, so_far))
        return no_statistics(start, so_far)

    monkeypatch.setattr(model.denoiser, "embed", spy)
    motion = sample(model, statistics=statistics)  # 150 frames
    given = [hint[:, -1] for hint in hints]
    torch.testing.assert_close(given, [HINT, motion[:, 63], motion[:, 85]], rtol=0, atol=0)
    assert [start for start, _ in seen] == [0, 64, 86]
    assert torch.equal(seen[0][1], HINT[:, None])
    assert torch.equal(seen[2][1], torch.cat([HINT[:, None], motion[:, :86]], dim=1))


def test_settings_of_the_process_change_the_motion(model):
    base, ones = sample(model), torch.ones(1, 20)
    for options in (
        {"statistics": lambda start, motion: (ones, None)},
        {"diffusion": GaussianDiffusion(sampler="ancestral", sampler_steps=3)},
        {"diffusion": GaussianDiffusion(sampler_steps=3, guidance=2.0)},
    ):
        assert not torch.allclose(sample(model, **options), base), options
    both = {"statistics": lambda start, motion: (ones, ones)}
    assert not torch.allclose(sample(model, **both), sample(model, **both, statistics_guidance=2.0))
    torch.testing.assert_close(sample(model, guidance=1.0), base)


def test_the_seed_is_of_the_speech_too_and_rounding_does_not_change_it():
    speeches = torch.randn(3, 1, 300, 160, generator=torch.Generator().manual_seed(0)).cumsum(dim=2)
    seeds = [speech_seed(seed, audio) for seed in (0, 1) for audio in speeches]
    assert len(set(seeds)) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[:3] == [speech_seed(0, audio.half().float()) for audio in speeches]
    assert speech_seed(0, torch.zeros(1, 2, 160)) == speech_seed(0, torch.ones(1, 90, 160))
    normed = torch.nn.functional.layer_norm(speeches, (160,))  # as speech models end: all means are 0
    silence = torch.zeros(1, 2, 160)
    assert len({speech_seed(0, audio) for audio in (*normed, silence)}) == 4


@pytest.mark.parametrize("frames", [1, 63, 64, 65, 128, 129, 90_000])
def test_windows_cover_speech_of_any_length_and_end_with_it(frames):
    starts = window_starts(frames)
    assert starts[0] == 0
    assert starts[-1] == max(frames - 64, 0)
    assert all(0 < later - sooner <= 64 for sooner, later in pairwise(starts))
    assert len(starts) == -(-frames // 64)


@pytest.mark.parametrize("features", [0, 3])
def test_odd_audio_and_none_are_refused(model, features):
    with pytest.raises(ValueError, match="audio features"):
        sample(model, features)


@pytest.mark.parametrize("features", [2, 128, 300])
def test_a_prefix_is_what_was_generated_last_and_speech_has_its_surroundings(model, monkeypatch, features):
    settings = network_spec(model.denoiser) | {"prefix": 5}
    torch.manual_seed(0)
    network = build_network(**settings).eval()
    torch.nn.init.normal_(network.final.weight)
    seen, embed = [], network.embed

    def spy(audio, hint, *rest):
        seen.append((audio, hint))
        return embed(audio, hint, *rest)

    monkeypatch.setattr(network, "embed", spy)
    draw = torch.Generator().manual_seed(0)
    audio = torch.randn(1, features, 160, generator=draw)
    motion = sample_motion(network, model.diffusion, audio, HINT, generator=draw)
    assert motion.shape == (1, features // 2, 20)
    first = seen[0][1]
    assert first[:, :4].isnan().all()
    assert torch.equal(first[:, 4], HINT)
    assert all(part.shape == (1, 2 * 74, 160) for part, _ in seen)
    for start, (part, before) in zip(window_starts(features // 2)[1:], seen[1:], strict=True):
        assert torch.equal(before, motion[:, start - 5 : start])
        known = audio[:, 2 * (start - 5) : 2 * (start + 69)]
        assert torch.equal(part[:, : known.shape[1]], known)
        assert (part[:, known.shape[1] :: 2] == audio[:, -2]).all()
