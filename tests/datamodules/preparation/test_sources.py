"""What lies in folders as sources: any videos, VoxCeleb's layouts, HDTF's originals."""

import logging
import os
from pathlib import Path

import pytest

from datamodules.errors import UserError
from datamodules.preparation.folder import folder_sources
from datamodules.preparation.hdtf import HDTFAnnotations, HDTFClip, hdtf_sources
from datamodules.preparation.sources import DEVELOPMENT, FaceHint, PixelBox, Span, file_stem
from datamodules.preparation.voxceleb import read_utterance, voxceleb_sources


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def test_a_folder_of_videos(tmp_path: Path, caplog) -> None:
    raw = touch(
        tmp_path, "ann/one.mp4", "ann/more/two.MOV", "bob/one.webm", "bob/one.mp4", "alone.mkv", "notes.txt"
    )
    touch(raw, "bob/a.txt", "bob/a.JPG", "b.txt", "README")
    with caplog.at_level(logging.INFO):
        sources = folder_sources(raw)
    assert [(one.id, one.name, one.identity) for one in sources] == [
        ("alone", "alone.mkv", "alone"),
        ("ann__more__two", "ann/more/two.MOV", "ann"),
        ("ann__one", "ann/one.mp4", "ann"),
        ("bob__one.mp4", "bob/one.mp4", "bob"),
        ("bob__one.webm", "bob/one.webm", "bob"),
    ]
    assert "1 videos" in caplog.text
    assert "passed over, not being videos by their names: " in caplog.text
    assert "1 .jpg, 3 .txt, 1 without a suffix" in caplog.text


def test_what_is_no_file_is_told(tmp_path: Path, caplog) -> None:
    raw = touch(tmp_path, "ann/one.mp4", "odd.mp4/two.mp4")
    (raw / "ann/lost.mp4").symlink_to(raw / "nowhere.mp4")
    os.mkfifo(raw / "pipe.mp4")
    assert [one.name for one in folder_sources(raw)] == ["ann/one.mp4", "odd.mp4/two.mp4"]
    assert (
        "3 passed over that are no files: ann/lost.mp4 (a broken link, or no regular file), " in caplog.text
    )
    assert "odd.mp4 (a folder), pipe.mp4 (a broken link, or no regular file)" in caplog.text


def test_videos_of_cameras_and_discs_are_videos(tmp_path: Path) -> None:
    names = ("a.mts", "b.ts", "c.3gp", "d.VOB", "e.m2ts")
    assert [one.name for one in folder_sources(touch(tmp_path, *names))] == list(names)


def test_a_list_says_who_is_seen(tmp_path: Path) -> None:
    raw = touch(tmp_path / "raw", "a.mp4", "b.mp4", "c.mp4")
    listed = tmp_path / "who.csv"
    listed.write_text("video,identity\n./a.mp4,Ann\na.mp4,Ann\nb.mp4,Ann\nc.mp4,Bob\n", encoding="utf-8-sig")
    assert [one.identity for one in folder_sources(raw, listed)] == ["Ann", "Ann", "Bob"]


@pytest.mark.parametrize("find", [folder_sources, voxceleb_sources])
def test_folders_without_videos_are_refused(tmp_path: Path, find) -> None:
    for folder, reason in (
        (tmp_path / "absent", "no such folder"),
        (touch(tmp_path, "id10001/a.txt"), "give the folder"),
    ):
        with pytest.raises(UserError, match=reason):
            find(folder)


def test_names_become_file_stems() -> None:
    assert file_stem("a b/c.d") == "a_b__c.d"
    assert file_stem("张三") != file_stem("李四")
    assert file_stem("a b/ç.d").startswith("a_b___.d-")
    assert file_stem("..") == "_"


def test_voxceleb2_has_sound_beside_its_videos(tmp_path: Path) -> None:
    raw = touch(
        tmp_path,
        "dev/mp4/id00012/abc/00001.mp4",
        "dev/aac/id00012/abc/00001.m4a",
        "dev/mp4/id00012/abc/00002.mp4",
        "test/mp4/id00017/def/00001.mp4",
        "test/aac/id00017/def/00001.m4a",
    )
    sources = voxceleb_sources(raw).sources
    assert [(one.id, one.identity, one.split) for one in sources] == [
        ("id00012__abc__00001", "id00012", DEVELOPMENT),
        ("id00012__abc__00002", "id00012", DEVELOPMENT),
        ("id00017__def__00001", "id00017", "test"),
    ]
    assert [one.sound and one.sound.relative_to(raw).as_posix() for one in sources] == [
        "dev/aac/id00012/abc/00001.m4a",
        None,
        "test/aac/id00017/def/00001.m4a",
    ]


def test_official_test_speakers_are_those_of_the_list_where_it_is_there(tmp_path: Path) -> None:
    raw = touch(
        tmp_path, "mp4/id00017/abc/00001.mp4", "mp4/id00018/abc/00001.mp4", "mp4/id10275/abc/00001.mp4"
    )
    assert [one.split for one in voxceleb_sources(raw).sources] == [DEVELOPMENT, DEVELOPMENT, "test"]
    header = "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \n"
    (raw / "vox2_meta.csv").write_text(header + "id00017 ,n000012 ,m ,test \nid00018 ,n000018 ,f ,dev \n")
    assert [one.split for one in voxceleb_sources(raw).sources] == ["test", DEVELOPMENT, "test"]
    alone = touch(tmp_path / "elsewhere", "test/mp4/id00020/abc/00001.mp4")
    assert [one.split for one in voxceleb_sources(alone / "test").sources] == ["test"]
    (only_development,) = [voxceleb_sources(touch(tmp_path / "dev", "id00030/abc/00001.mp4"))]
    assert "vox2_meta.csv" in only_development.notes[0]


BOXES_1 = """Identity  : \tid10270
Reference : \tabc
Offset    : \t-3
FV Conf   : \t16.647\t(1)
ASD Conf  : \t4.465

FRAME \tX \tY \tW \tH
000050 \t100 \t40 \t60 \t60
000051 \t102 \t40 \t60 \t60
000052 \t104 \t40 \t60 \t60
"""
BOXES_2 = "FRAME \tX \tY \tW \tH \n000000 \t0.25 \t0.2 \t0.2 \t0.4\n000001 \t0.25 \t0.2 \t0.2 \t0.4\n"


def test_voxceleb1_is_cut_by_its_annotations(tmp_path: Path) -> None:
    raw = touch(tmp_path, "originals/abc.mp4")
    for name, text in (("id10270/abc/00001.txt", BOXES_1), ("id10270/gone/00001.txt", BOXES_1)):
        path = raw / "txt" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (raw / "txt/id10270/abc/00002.txt").write_text("000001 1 2 3\n")
    found = voxceleb_sources(raw)
    assert found.missing == ["id10270__gone__00001"]
    [source] = found.sources
    [rejection] = source.rejected
    assert (rejection.clip, rejection.reason) == ("id10270__abc__00002", "annotation not readable")
    assert (source.id, source.identity, source.split) == ("id10270__abc", "id10270", "test")
    assert source.spans == (Span("id10270__abc__00001", 2.0, 2.12, face=FaceHint(102, 40, 60, 60, 360)),)
    assert source.spans[0].face.at(720, 1280) == (204, 80, 324, 200)


def test_boxes_may_be_shares(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(BOXES_2)
    hint = read_utterance(path).face
    assert hint == FaceHint(0.25, 0.2, 0.2, 0.4, None)
    assert hint.at(100, 200) == pytest.approx((50, 20, 90, 60))


def test_hdtf_originals_that_are_there(tmp_path: Path) -> None:
    raw = touch(tmp_path, "Ann1.mp4", "more/RD_Radio1.webm", "more/RD_Radio1.sound.webm")
    crop = PixelBox(600, 0, 700, 700)
    clips = [
        HDTFClip("Ann1_0", "WDA", "Ann1", "https://a", 5.0, 95.0, 1080, crop),
        HDTFClip("Ann1_1", "WDA", "Ann1", "https://a", 120.0, 130.0, 1080, None),
        HDTFClip("Radio1_0", "RD", "Radio1", "https://b", 0.0, 9.0, 720, None),
        HDTFClip("Gone_0", "WRA", "Gone", "https://c", 0.0, 9.0, 720, None),
    ]
    found = hdtf_sources(HDTFAnnotations(clips, []), raw)
    assert found.missing == ["WRA_Gone_000"]
    ann, radio = found.sources
    assert (ann.identity, radio.identity) == ("Ann", "Radio1")
    assert ann.spans == (
        Span("WDA_Ann1_000", 5.0, 95.0, crop, 1080),
        Span("WDA_Ann1_001", 120.0, 130.0, None, 1080),
    )
    assert ann.sound is None
    assert radio.sound == raw / "more/RD_Radio1.sound.webm"
    assert radio.video == raw / "more/RD_Radio1.webm"


def test_names_that_are_no_text_are_prepared_all_the_same(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    (raw / os.fsdecode(b"caf\xe8.mp4")).write_bytes(b"x")
    one, other = folder_sources(raw)
    assert one.id != other.id
    for source in (one, other):
        assert source.video.is_file()
        assert source.name.isprintable()
        assert source.name.encode().decode() == source.name  # fit for reports
