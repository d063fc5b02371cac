"""What of a shot becomes a clip, and what is told of the rest."""

import numpy as np

from datamodules.faces.finding import FaceBox
from datamodules.preparation.face_tracks import SeenFace
from datamodules.preparation.pieces import Cutter, Piece, Unfit
from datamodules.preparation.seeing import Seen
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import FaceHint, PixelBox, Span

WHOLE = Span("film", 0.0, None)


def face(x: float, y: float = 300.0, side: float = 100.0) -> SeenFace:
    box = FaceBox(x, y, x + side, y + side, 1.0, "mediapipe")
    return SeenFace(box, np.zeros((478, 2), np.float32), np.zeros(3, np.float32), 0.0)


def cut(seen: Seen, span: Span = WHOLE, **settings) -> list[tuple]:
    found = Cutter(seen, span, 720, 1280, PreparationSettings(**settings)).pieces()
    return [
        (one.first, one.frames) if isinstance(one, Piece) else (one.first, one.frames, one.reason)
        for one in found
    ]


def test_long_shots_are_cut_into_equal_parts_and_cuts_are_kept() -> None:
    seen = Seen([[face(600)] for _ in range(1100)], [100])
    assert cut(seen) == [(0, 100), (100, 500), (600, 500)]
    assert cut(seen, max_seconds=50.0) == [(0, 100), (100, 1000)]
    assert cut(seen, min_seconds=5.0) == [(0, 100, "too short"), (100, 500), (600, 500)]


def test_a_face_that_overlaps_another_is_used_where_it_is_alone() -> None:
    faces = [([face(200)] if n < 400 else []) + ([face(900)] if n >= 395 else []) for n in range(900)]
    assert sorted(cut(Seen(faces, []))) == [(0, 395), (395, 252), (647, 253)]


def test_what_no_face_stays_in_is_told() -> None:
    faces = [[face(600)] if 100 <= n < 300 else [] for n in range(420)]
    assert sorted(cut(Seen(faces, []))) == [
        (0, 100, "face not tracked"),
        (100, 200),
        (300, 120, "face not tracked"),
    ]
    assert cut(Seen([[] for _ in range(100)], [])) == [(0, 100, "no face")]


def test_missing_pictures_end_a_clip() -> None:
    seen = Seen([[face(600)] for _ in range(300)], []).without(np.arange(150, 170))
    assert cut(seen) == [(0, 150), (170, 130)]


def test_a_head_that_moves_too_far_is_cut_until_it_does_not() -> None:
    wandering = Seen([[face(100 + n)] for n in range(400)], [])
    pieces = cut(wandering)
    assert sum(one[1] for one in pieces) == 400
    assert len(pieces) > 3
    assert all(len(one) == 2 or one[2] == "moves too far" for one in pieces)
    running = Seen([[face(100 + 10 * n)] for n in range(100)], [])
    assert cut(running) == [(0, 100, "moves too far")]


def test_the_speaker_that_a_dataset_names_is_followed() -> None:
    both = Seen([[face(200, side=120), face(900)] for _ in range(100)], [])
    [left] = Cutter(both, WHOLE, 720, 1280, PreparationSettings()).pieces()
    assert isinstance(left, Piece)
    assert (left.track.faces[0].box.x0, left.company) == (200, 1.0)
    for span in (
        Span("film", 0, None, face=FaceHint(450, 150, 50, 50, 360)),
        Span("film", 0, None, crop=PixelBox(400, 100, 150, 150), crop_height=360),
    ):
        [right] = Cutter(both, span, 720, 1280, PreparationSettings()).pieces()
        assert isinstance(right, Piece)
        assert (right.track.faces[0].box.x0, right.company) == (900, 0.0)
    assert right.crop == (800, 200, 300)  # the published one, at twice the height
    nobody = Span("film", 0, None, face=FaceHint(0.0, 0.0, 0.1, 0.1, None))
    [none] = Cutter(both, nobody, 720, 1280, PreparationSettings()).pieces()
    assert isinstance(none, Unfit)
    assert none.reason == "another face"
