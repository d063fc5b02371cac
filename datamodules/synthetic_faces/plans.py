"""Which clip shows whom, saying what, in which draw of the motion: a dataset before anything is made."""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datamodules.synthetic_faces.settings import LONG_SECONDS, Settings

Stream = Literal["seen", "performer", "voice", "speech", "motion"]


@dataclass(frozen=True)
class ClipPlan:
    """All that one clip depends on besides the settings."""

    index: int  # number of the clip in its dataset, twins not counted
    seen: int  # number of the identity that is seen
    performer: int  # number of the identity that speaks and moves; differs from ``seen`` in twins only
    split: str  # ``train``, ``val`` or ``test``
    speech: int  # number of the speech, shared by all draws of its motion
    draw: int  # number of the draw
    seconds: tuple[float, float]  # shortest and longest duration

    @property
    def is_twin(self) -> bool:
        """Whether the motion is another identity's."""
        return self.seen != self.performer

    @property
    def original_id(self) -> str:
        """File stem of the clip with this motion on its own performer."""
        return f"synthetic_{self.index:06d}"

    @property
    def clip_id(self) -> str:
        """File stem of the clip."""
        return f"{self.original_id}_twin" if self.is_twin else self.original_id

    def rng(self, what: Stream, seed: int) -> np.random.Generator:
        """Random numbers for a part of the clip, below the ``seed`` of its dataset."""
        keys: dict[Stream, tuple[int, ...]] = {
            "seen": (0, self.seen),  # looks of who is seen
            "performer": (0, self.performer),  # and of who speaks and moves
            "speech": (1, self.speech),  # sentences, delivery and noise, the same for all draws
            "motion": (2, self.speech, self.draw),  # style and free motion, the same for twins
            "voice": (3, self.performer),  # the same in all clips of an identity
        }
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=keys[what]))


def plan_clips(settings: Settings) -> list[ClipPlan]:
    """All clips of a dataset, twins after the clips they belong to.

    Identities take turns in runs of consecutive speeches; of every ten identities the second goes to val, the
    third to test. The twins of a performer show one more identity, which is seen nowhere else.
    """
    heads, speeches = settings.heads, settings.clips // settings.draws
    splits = ["val" if place % 10 == 1 else "test" if place % 10 == 2 else "train" for place in range(heads)]
    performer_of = [speech * heads // speeches for speech in range(speeches)]
    long = _long_speeches([splits[performer] for performer in performer_of], settings.long_clips)
    plans = []
    for index in range(settings.clips):
        speech, draw = divmod(index, settings.draws)
        performer = performer_of[speech]
        split = splits[performer]
        seconds = LONG_SECONDS if speech in long else settings.seconds
        # Of a share s the n-th clip has one where n s passes a whole number: spread evenly.
        share = settings.train_twins if split == "train" else float(settings.twins)
        twins = [heads + performer] if int((index + 1) * share) > int(index * share) else []
        for seen in (performer, *twins):
            plans.append(ClipPlan(index, seen, performer, split, speech, draw, seconds))
    return plans


def _long_speeches(split_of: list[str], count: int) -> set[int]:
    """Speeches that are long: the splits take turns, within a split they lie apart."""
    splits = ("test", "val", "train")
    queues = [[speech for speech, own in enumerate(split_of) if own == split] for split in splits]
    chosen: set[int] = set()
    for queue in itertools.cycle(queues):
        if len(chosen) == count:
            break
        if queue:
            chosen.add(queue.pop(len(queue) // 2))
    return chosen
