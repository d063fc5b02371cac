"""Who is who over time, what of a shot becomes a clip, and what is told of the rest."""

import numpy as np
import pytest

from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import SquareCrop
from datamodules.preparation.detection import Detections, FaceDetection
from datamodules.preparation.quality import loudness
from datamodules.preparation.segments import Segment, Segmenter
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import FaceHint, PixelBox, Span
from datamodules.preparation.tracking import LONGEST_GAP, FaceTrack, company_share, track_faces

WHOLE = Span("film", 0.0, None)


def face(x: float, y: float = 300.0, side: float = 100.0) -> FaceDetection:
    box = FaceBox(x, y, x + side, y + side)
    return FaceDetection(box, np.zeros((478, 2), np.float32), np.zeros(3, np.float32), 0.0)


def test_two_people_are_two_tracks_whatever_order_they_are_detected_in() -> None:
    generator = np.random.default_rng(0)
    detected = []
    for number in range(40):
        both = [face(10 + number), face(300 - number, side=80)]
        detected.append(both if generator.random() < 0.5 else both[::-1])
    large, small = track_faces(detected, 0, 40)
    assert large.frames == small.frames == list(range(40))
    assert [one.box.x0 for one in large.faces] == [10 + n for n in range(40)]
    assert {one.box.side for one in small.faces} == {80}
    assert large.weight > small.weight
    assert [track.frames for track in track_faces(detected, 10, 20)] == [list(range(10, 20))] * 2


def test_a_face_may_be_lost_for_some_frames_but_one_that_jumps_is_another() -> None:
    gap = LONGEST_GAP
    [track] = track_faces([[face(20)]] * 10 + [[]] * gap + [[face(25)]] * 10, 0, 20 + gap)
    assert track.frames == [*range(10), *range(10 + gap, 20 + gap)]
    boxes = track.boxes()
    assert len(boxes) == 20 + gap
    assert (np.diff(boxes[:, 0]) >= 0).all()
    assert (boxes[0, 0], boxes[-1, 0]) == (20, 25)
    assert len(track_faces([[face(20)]] * 10 + [[]] * (gap + 1) + [[face(25)]] * 10, 0, 21 + gap)) == 2
    assert len(track_faces([[face(0)]] * 5 + [[face(400)]] * 5, 0, 10)) == 2


def test_company_counts_large_faces_only() -> None:
    detected = [[face(0, 50), face(300, 50, 80)]] * 5 + [[face(0, 50), face(300, 50, 30)]] * 5
    [main, *_] = track_faces(detected, 0, 10)
    assert company_share(main, detected) == 0.5
    assert company_share(FaceTrack([7], [detected[7][0]]), detected) == 0.0
    assert company_share(main, detected, SquareCrop(0, 0, 200)) == 0.0
    assert company_share(main, detected, SquareCrop(0, 0, 900)) == 0.5


def segments(detections: Detections, span: Span = WHOLE, **settings) -> list:
    return list(Segmenter(detections, span, 720, 1280, PreparationSettings(**settings)).segments())


def told(faces: list[list[FaceDetection]], cuts: tuple[int, ...] = (), **settings) -> list[tuple]:
    """First frame and number of frames of each segment; of those that are unfit the reason, too."""
    return [
        (one.first, one.frames) if isinstance(one, Segment) else (one.first, one.frames, one.reason)
        for one in segments(Detections(faces, list(cuts)), **settings)
    ]


def test_long_shots_are_cut_into_equal_parts_and_cuts_are_kept() -> None:
    faces = [[face(600)]] * 1100
    assert told(faces, (100,)) == [(0, 100), (100, 500), (600, 500)]
    assert told(faces, (100,), max_seconds=50.0) == [(0, 100), (100, 1000)]
    assert told(faces, (100,), min_seconds=5.0) == [(0, 100, "too short"), (100, 500), (600, 500)]


def test_a_face_that_overlaps_another_is_used_where_it_is_alone() -> None:
    faces = [([face(200)] if n < 400 else []) + ([face(900)] if n >= 395 else []) for n in range(900)]
    assert sorted(told(faces)) == [(0, 395), (395, 252), (647, 253)]


def test_what_no_face_stays_in_is_told() -> None:
    lost = "face not tracked"
    faces = [[face(600)] if 100 <= n < 300 else [] for n in range(420)]
    assert sorted(told(faces)) == [(0, 100, lost), (100, 200), (300, 120, lost)]
    assert told([[face(600)]] * 50 + [[]] * 50) == [(0, 100, lost)]
    assert told([[]] * 100) == [(0, 100, "no face")]


def test_missing_pictures_end_a_clip() -> None:
    whole = Detections([[face(600)]] * 300, [])
    assert told(whole.without(np.arange(150, 170)).faces) == [(0, 150), (170, 130)]


def test_a_head_that_moves_too_far_is_cut_until_it_does_not() -> None:
    wandering = told([[face(100 + n)] for n in range(400)])
    assert sum(one[1] for one in wandering) == 400
    assert len(wandering) > 3
    assert all(len(one) == 2 or one[2] == "moves too far" for one in wandering)
    assert told([[face(100 + 10 * n)] for n in range(100)]) == [(0, 100, "moves too far")]


def test_the_speaker_that_a_dataset_names_is_followed() -> None:
    both = Detections([[face(200, side=120), face(900)]] * 100, [])
    [left] = segments(both)
    assert (left.track.faces[0].box.x0, left.company) == (200, 1.0)
    for span in (
        Span("film", 0, None, face=FaceHint(450, 150, 50, 50, 360)),
        Span("film", 0, None, crop=PixelBox(400, 100, 150, 150), crop_height=360),
    ):
        [right] = segments(both, span)
        assert (right.track.faces[0].box.x0, right.company) == (900, 0.0)
    assert right.crop == (800, 200, 300)  # the published one, at twice the height
    [free] = segments(both, span, published_crops=False)
    assert free.track.faces[0].box.x0 == 200
    [none] = segments(both, Span("film", 0, None, face=FaceHint(0.0, 0.0, 0.1, 0.1, None)))
    assert none.reason == "another face"


def test_loudness_is_decibel() -> None:
    assert loudness(np.sin(2 * np.pi * np.arange(16000) / 160)) == pytest.approx(-3.01, abs=0.01)
    assert loudness(np.zeros(100)) == loudness(np.zeros(0)) == -120
