"""Who is who over time."""

import numpy as np
import pytest

from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import SquareCrop
from datamodules.preparation.face_tracks import LONGEST_GAP, FaceTrack, SeenFace, company_share, tracks_of


def face(x: float, y: float = 50.0, side: float = 100.0) -> SeenFace:
    box = FaceBox(x, y, x + side, y + side, 1.0, "mediapipe")
    return SeenFace(box, np.zeros((478, 2), np.float32), np.zeros(3, np.float32), 0.0)


def test_two_people_are_two_tracks_whatever_order_they_are_seen_in() -> None:
    generator = np.random.default_rng(0)
    seen = []
    for number in range(40):
        both = [face(10 + number), face(300 - number, side=80)]
        seen.append(both if generator.random() < 0.5 else both[::-1])
    large, small = tracks_of(seen, 0, 40)
    assert large.frames == small.frames == list(range(40))
    assert [one.box.x0 for one in large.faces] == [10 + n for n in range(40)]
    assert {one.box.side for one in small.faces} == {80}
    assert large.weight > small.weight


@pytest.mark.parametrize(("gap", "tracks"), [(LONGEST_GAP, 1), (LONGEST_GAP + 1, 2)])
def test_a_face_may_be_lost_for_some_frames(gap: int, tracks: int) -> None:
    seen = [[face(20)]] * 10 + [[]] * gap + [[face(25)]] * 10
    found = tracks_of(seen, 0, len(seen))
    assert len(found) == tracks
    if tracks == 1:
        assert found[0].frames == [*range(10), *range(10 + gap, 20 + gap)]
        boxes = found[0].boxes()
        assert len(boxes) == 20 + gap
        assert (np.diff(boxes[:, 0]) >= 0).all()
        assert boxes[0, 0] == 20
        assert boxes[-1, 0] == 25


def test_a_face_that_jumps_is_another_one() -> None:
    assert len(tracks_of([[face(0)]] * 5 + [[face(400)]] * 5, 0, 10)) == 2


def test_only_the_frames_that_are_asked_for_count() -> None:
    [track] = tracks_of([[face(0)]] * 30, 10, 20)
    assert track.frames == list(range(10, 20))


def test_company_counts_large_faces_only() -> None:
    seen = [[face(0), face(300, side=80)]] * 5 + [[face(0), face(300, side=30)]] * 5
    [main, *_] = tracks_of(seen, 0, 10)
    assert company_share(main, seen) == 0.5
    assert company_share(FaceTrack([7], [seen[7][0]]), seen) == 0.0
    assert company_share(main, seen, SquareCrop(0, 0, 200)) == 0.0
    assert company_share(main, seen, SquareCrop(0, 0, 900)) == 0.5
