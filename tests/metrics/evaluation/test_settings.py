"""Whatever setting moves a value moves a hash that the value is ranked by."""

import dataclasses
import math
import warnings

import pytest
import torch

from metrics.evaluation.clips import match_videos
from metrics.evaluation.evaluation import evaluate
from metrics.evaluation.judges import SyncNetJudge
from metrics.evaluation.loading import rendered_clips
from metrics.evaluation.loop import ROW_PLANS
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.registry import measure_of
from metrics.judges.syncnet import SyncNet

NO_GROUPS = ("name", "task", "reading")
GROUPS = [one.name for one in dataclasses.fields(Protocol) if one.name not in NO_GROUPS]


def other(value):
    """Another value of the same type."""
    if isinstance(value, tuple):
        return (*value[:-1], other(value[-1]))
    return value + 1 if isinstance(value, int) else value * 0.7 + 0.01


def judged(studio, clips, data, protocol):
    """Values, and hashes by measure, of two people's clips in both families."""
    torch.manual_seed(0)
    judges = studio.all_judges(sync=SyncNetJudge(SyncNet(0.02, 51), boxes=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty means, in settings that nobody would choose
        found = evaluate(clips, data, protocol, judges, ROW_PLANS["model"])
    return {name: tuple(one.values()) for name, one in found["metrics"].items()}, found["protocol"]


def moved(before, after):
    """Names of the values that differ, or are there in one of the two alone."""

    def same(first, second):
        return first == second or (
            first is not None
            and second is not None
            and all(
                a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9))
                for a, b in zip(first, second, strict=True)
            )
        )

    return {name for name in before.keys() | after.keys() if not same(before.get(name), after.get(name))}


@pytest.fixture(scope="module")
def rendered(studio, reference, tmp_path_factory):
    root = tmp_path_factory.mktemp("settings")
    studio.with_phones(reference, root / "reference")
    for name in ("a2", "mute"):
        for path in (root / "reference").rglob(f"{name}.mp4"):
            path.unlink()
    protocol = get_protocol("talking-head-v2", size=studio.SIZE)
    protocol = dataclasses.replace(protocol, sync=dataclasses.replace(protocol.sync, minimum_frames=50))
    (root / "videos").mkdir()
    for path in (root / "reference").rglob("*.mp4"):
        frames = studio.draw(0.5 * studio.spoken(len(path.stem))[0], torch.zeros(studio.FRAMES).numpy(), 1)
        studio.write_video(root / "videos" / path.name, frames, crf=20)
    data, _ = match_videos(root / "videos", root / "reference")
    return protocol, data, list(rendered_clips(data, protocol.reading))


def test_a_setting_that_moves_a_value_moves_its_hash(studio, rendered):
    import time

    protocol, data, clips = rendered
    before, record = judged(studio, clips, data, protocol)
    seen = {}
    for group in GROUPS:
        settings = getattr(protocol, group)
        for field in dataclasses.fields(settings):
            new = dataclasses.replace(settings, **{field.name: other(getattr(settings, field.name))})
            t = time.time()
            try:
                after, others = judged(studio, clips, data, dataclasses.replace(protocol, **{group: new}))
            except Exception as error:
                print(group, field.name, "RAISES", repr(error)[:200])
                continue
            names = moved(before, after)
            print(
                group,
                field.name,
                round(time.time() - t, 2),
                len(names),
                sorted({measure_of(n).name for n in names})[:6],
            )
