import numpy as np

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.motion.style import (
    HEAD_INTENSITY,
    Style,
    draw_style,
    quantiles_of_looks,
    quantiles_of_speech,
)
from datamodules.synthetic_faces.speech.espeak import Phoneme
from datamodules.synthetic_faces.speech.narration import LEVELS, Narration, _delivery
from datamodules.synthetic_faces.speech.voices import VOICES, Voice


def spoken(level: float, voice: Voice = VOICES[0]) -> Narration:
    tone = np.full(640 * 25, 10 ** (level / 20), dtype=np.float32)
    return Narration(voice, "", tone, tone, [Phoneme("a", 0.0, 1.0)], level)


def people(count: int) -> list[Identity]:
    return [Identity.sample(np.random.default_rng(seed)) for seed in range(count)]


def test_intensities_are_independent_and_spread_widely() -> None:
    styles = [Style.sample(np.random.default_rng(seed)) for seed in range(300)]
    table = np.log([[s.head_intensity, s.mouth_intensity, s.blink_intensity] for s in styles])
    assert np.abs(np.corrcoef(table.T) - np.eye(3)).max() < 0.2
    head = np.exp(table[:, 0])
    assert head.min() < 1.2 * HEAD_INTENSITY[0]
    assert head.max() > 0.85 * HEAD_INTENSITY[1]


def test_free_style_tells_nothing_of_the_looks_and_a_tied_one_all() -> None:
    crowd = people(300)
    narration = spoken(-24.0)
    looks = np.array([list(person.shape.values()) for person in crowd])
    for source, explained in (("free", False), ("identity", True)):
        rngs = map(np.random.default_rng, range(len(crowd)))
        styles = [draw_style(rng, p, narration, "free", source) for rng, p in zip(rngs, crowd, strict=True)]
        rest = np.array([style.rest_yaw for style in styles])
        design = np.c_[looks, np.ones(len(looks))]
        coefficients = np.linalg.lstsq(design[:60], rest[:60], rcond=None)[0]
        error = rest[60:] - design[60:] @ coefficients
        r2 = 1 - error.var() / rest[60:].var()
        assert (r2 > 0.9) if explained else (r2 < 0.2)
    rngs = map(np.random.default_rng, (1, 99))
    assert len({draw_style(rng, crowd[0], narration, "free", "identity") for rng in rngs}) == 1


def test_tied_styles_spread_as_free_ones_do() -> None:
    tied = np.array([quantiles_of_looks(person) for person in people(200)])
    assert (np.abs(tied.mean(axis=0) - 0.5) < 0.12).all()
    assert (tied.std(axis=0) > 0.2).all()


def test_intensities_that_are_heard_spread_as_free_ones_do() -> None:
    rng = np.random.default_rng(0)
    q = [
        quantiles_of_speech(spoken(rng.uniform(*LEVELS) + rng.normal(0, 2.2), _delivery(rng, voice)))
        for voice in VOICES
        for _ in range(5)
    ]
    for column in np.array(q).T:
        shares = np.histogram(column, bins=4, range=(0, 1))[0] / len(column)
        assert (np.abs(shares - 0.25) < 0.12).all(), shares
        assert (np.abs(column - 0.5) > 0.499).mean() < 0.02


def test_intensity_is_heard_only_where_it_is_tied_to_speech() -> None:
    person = people(1)[0]
    levels = np.linspace(*LEVELS, 9)

    def styles(levels: np.ndarray, intensity: str) -> list[Style]:
        drawn = enumerate(map(spoken, levels))
        return [draw_style(np.random.default_rng(i), person, said, intensity, "free") for i, said in drawn]

    tied = styles(levels, "speech")
    assert (np.diff([style.head_intensity for style in tied]) > 0).all()
    many = np.random.default_rng(0).uniform(*LEVELS, 200)
    free = styles(many, "free")
    for name in ("head_intensity", "mouth_intensity", "blink_intensity"):
        assert abs(np.corrcoef(many, [getattr(style, name) for style in free])[0, 1]) < 0.2, name
    assert len({style.rest_yaw for style in tied}) == len(tied)
