"""HDTF's published annotation files, and the splits that are made of them."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from datamodules.clips.splits import find_splits, read_splits
from datamodules.errors import UserError
from datamodules.preparation.hdtf import FIXED_SPLITS, HDTFClip, fixed_splits, read_hdtf_annotations
from datamodules.preparation.sources import PixelBox

LINES = {
    "WDA_video_url.txt": "\ufeffAnn1 https://host/watch?v=a&t=6s\nBob https://host/watch?v=b\nCleo ftp://x\n",
    "WDA_resolution.txt": "Ann1.mp4 1080\nBob.mp4 0\nDora.mp4 720 \n",
    "WDA_annotion_time.txt": "Ann1.mp4 00:05-01:35 02:00-02:10 \n\nBob.mp4 00:10-00:05\r\nDora.mp4 01:00-01:30\n",
    "WDA_crop_wh.txt": "Ann1_0.mp4 608 726 0 726\nAnn1_0.mp4 600 726 0 726\nDora_0.mp4 3 400 500 400\nAnn1_1.mp4 1 2 3\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in LINES.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    return tmp_path


def test_clips_are_read_from_the_files(folder: Path) -> None:
    clips = read_hdtf_annotations(folder).clips
    assert clips == [
        HDTFClip("Ann1_0", "WDA", "Ann1", "https://host/watch?v=a&t=6s", 5.0, 95.0, 1080, PixelBox(608, 0, 726, 726)),
        HDTFClip("Ann1_1", "WDA", "Ann1", "https://host/watch?v=a&t=6s", 120.0, 130.0, 1080, None),
        HDTFClip("Dora_0", "WDA", "Dora", None, 60.0, 90.0, 720, PixelBox(3, 500, 400, 400)),
    ]  # fmt: skip
    assert [clip.speaker for clip in clips] == ["Ann", "Ann", "Dora"]


def test_what_does_not_fit_is_listed(folder: Path) -> None:
    assert set(read_hdtf_annotations(folder).problems) == {
        "WDA_video_url.txt: Cleo not an address: ftp://x",
        "WDA_resolution.txt: Bob not a height in pixels: 0",
        "WDA_annotion_time.txt: Bob ends before it starts: 00:10-00:05",
        "WDA_crop_wh.txt: Ann1_0 listed twice, with different values",
        "WDA_crop_wh.txt: Ann1_1 not a crop: 1 2 3",
        "WDA_annotion_time.txt: Ann1_1 has no crop",
        "WDA_annotion_time.txt: Dora has no address",
        "WDA_video_url.txt: Bob has no times",
        "WDA_crop_wh.txt: Dora_0 crop reaches below the 720 lines",
    }


@pytest.mark.parametrize("factor", [1.0, 0.5, 2 / 3, 2.0])
def test_crops_fit_the_version_at_hand(factor: float) -> None:
    crop = PixelBox(608, 0, 726, 726).scaled(factor)
    edges = (crop.x, crop.y, crop.x + crop.width, crop.y + crop.height)
    assert edges == pytest.approx([608 * factor, 0, 1334 * factor, 726 * factor], abs=0.5)


def test_incomplete_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "WDA_crop_wh.txt").unlink()
    with pytest.raises(UserError, match=r"WDA_crop_wh\.txt"):
        read_hdtf_annotations(folder)
    with pytest.raises(UserError, match="none of HDTF's annotation files"):
        read_hdtf_annotations(tmp_path / "elsewhere")


def test_published_files_are_read(shared: Path) -> None:
    annotations = read_hdtf_annotations(shared / "data" / "hdtf_annotations")
    assert len(annotations.clips) == 436
    assert sum(clip.crop is None for clip in annotations.clips) == 15
    assert "WRA_resolution.txt: KevinMcCarthy1 not a height in pixels: 0" in annotations.problems
    assert len(annotations.problems) == 22


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with find_splits(FIXED_SPLITS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_splits_share_no_identity_and_cover_all_subsets(rows: list[dict[str, str]]) -> None:
    splits = read_splits(find_splits(FIXED_SPLITS))  # refuses an identity that is in two
    count = Counter(splits.values())
    assert 0.10 < count["test"] / len(splits) < 0.15
    assert {(row["clip"].partition("_")[0], row["split"]) for row in rows} == {
        (subset, split) for subset in ("RD", "WDA", "WRA") for split in ("train", "val", "test")
    }
    assert len({row["clip"] for row in rows}) == len(rows) == 436


def test_the_file_is_what_the_published_lists_give(rows: list[dict[str, str]], shared: Path) -> None:
    annotations = read_hdtf_annotations(shared / "data" / "hdtf_annotations")
    assert [tuple(row.values()) for row in rows] == fixed_splits(annotations)
    addresses: dict[str, set[str]] = {}
    for clip in annotations.clips:
        if clip.url:
            addresses.setdefault(clip.url.split("&")[0], set()).add(clip.speaker)
    assert all(len(speakers) == 1 for speakers in addresses.values())
