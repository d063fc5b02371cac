"""The whole way on real people: videos that get worse by degrees, beside portraits and speech, must be ranked in order."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

from datamodules.faces.framing import crop_square
from datamodules.media.audio import fit_length, load_audio, write_wav
from datamodules.media.video import VideoReader, write_video
from experiments.evaluate import evaluate_free, write_videos
from experiments.leaderboard import read_entries
from experiments.report.leaderboard import csv_text, markdown_text, write_html
from experiments.report.ranking import make_boards
from metrics.evaluation.judges import load_judges, load_motion_judge
from metrics.evaluation.loading import find_crop
from metrics.evaluation.protocol import get_protocol
from metrics.evaluation.registry import measures_of

CLIPS = {
    "hdtf_wda_edmarkey.mp4": 0, "hdtf_wda_katiehill.mp4": 0, "french_30fps.mp4": 1, "portrait_hevc_beard.mp4": 1,
    "syncnet_example.avi": 4, "vfr_700.mp4": 2,
}  # fmt: skip
"""Real clips, and by how many frames their sound comes early as it was published."""
SPEAKERS = (
    "latentsync_demo1_video", "musetalk_yongen", "sadtalker_rd_radio34_000", "mimictalk_data", "mimictalk_datab",
    "video_retalking_2", "video_retalking_3", "video_retalking_4", "video_retalking_5", "liveportrait_d10",
    "edtalk_uncrop_obama", "real3dportrait_data", "dh_live_videob", "v_express_gt",
    "sadtalker_wda_alexandriaocasiocortez_000",
)  # fmt: skip
SHAKES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Pixels; the blur grows by 0.8 pixels a level."""
PICTURES = ("original", "mild", "worse", "strong", "worst")
SOUNDS = {"original": 0, "sound 4 late": 4, "sound 8 late": 8}
FROZEN = "half frozen"
METHODS = (*PICTURES, *list(SOUNDS)[1:], FROZEN)
FRAMES, SIZE = 150, 256


def degrade(frames: np.ndarray, level: int) -> np.ndarray:
    """Frames that are blurred and shake; of level 0 as they are."""
    if not level:
        return frames
    moves = np.random.default_rng(level).normal(0, SHAKES[level], (len(frames), 2))
    blurred = [gaussian_filter(one.astype(np.float32), (0.8 * level, 0.8 * level, 0)) for one in frames]
    moved = [
        shift(one, (*move, 0), order=1, mode="nearest") for one, move in zip(blurred, moves, strict=True)
    ]
    return np.stack(moved).round().clip(0, 255).astype(np.uint8)


def late(sound: np.ndarray, frames: int) -> np.ndarray:
    return np.pad(sound, (640 * frames, 0))[: len(sound)]


def make_material(shared: Path, folder: Path) -> None:
    """Portraits and speech of real clips, in sync; their own videos as the first method, and degraded copies."""
    for method in ("sources", *METHODS):
        (folder / method).mkdir(parents=True)
    for name, early in CLIPS.items():
        path, stem = shared / "data/clips" / name, Path(name).stem
        reader = VideoReader(path)
        frames = reader.get(reader.at_rate()[:FRAMES])
        crop = find_crop(frames[::20])
        frames = np.stack([crop_square(frame, crop, SIZE) for frame in frames])
        sound = late(fit_length(load_audio(path), len(frames)), early)
        Image.fromarray(frames[0]).save(folder / "sources" / f"{stem}.png")
        write_wav(folder / "sources" / f"{stem}.wav", sound)
        stopped = frames[np.arange(len(frames)).clip(max=len(frames) // 2)]
        shown = {method: degrade(frames, level) for level, method in enumerate(PICTURES)} | {FROZEN: stopped}
        for method in METHODS:
            heard = late(sound, SOUNDS.get(method, 0))
            write_video(
                folder / method / f"{stem}.mp4", shown.get(method, frames), audio=heard, crf=14, threads=1
            )


def judge_all(shared: Path, folder: Path) -> list[Path]:
    """Results of all methods by the public models that are there; speakers are looked at once."""
    speakers = folder / "speakers"
    speakers.mkdir()
    for name in SPEAKERS:
        (speakers / f"{name}.mp4").symlink_to(shared / "data/train" / f"{name}.mp4")
    protocol = get_protocol("talking-head-free-v1", "free", size=SIZE, max_frames=FRAMES)
    slots = {slot for one in measures_of("free") for slot in one.judges}
    judges = load_judges(slots, protocol, load_motion_judge("landmarks", folder))
    seen, look = {}, judges.detector

    def once(frames):
        key = hash(frames.tobytes())
        if key not in seen:
            seen[key] = look(frames)
        return seen[key]

    judges.detector = once
    for method in METHODS:
        results = evaluate_free(folder / method, folder / "sources", method, protocol, speakers, judges)
        write_videos(results, folder / method, method)
    return [folder / method for method in METHODS]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_leaderboard_puts_degraded_videos_of_real_people_in_the_order_of_their_degradation(
    shared: Path, tmp_path: Path
) -> None:
    make_material(shared, tmp_path)
    (board,) = make_boards(read_entries(judge_all(shared, tmp_path)[::-1]))
    order = {one.measure.name: [line.entry.name for line in one.lines] for one in board.rankings}
    rank = {one.measure.name: {line.entry.name: line.rank for line in one.lines} for one in board.rankings}

    def in_order(name: str, series: Iterable[str]) -> bool:
        wanted = list(series)
        best, worst = rank[name][wanted[0]], rank[name][wanted[-1]]
        return [one for one in order[name] if one in wanted] == wanted and best < worst

    for name in ("csim", "fine_detail", "jitter"):
        assert in_order(name, PICTURES), name
    for name in ("av_corr_zero", "av_lag"):
        assert in_order(name, SOUNDS), name
    values = {
        one.name: {name: one.results["metrics"][name]["value"] for name in order} for one in board.entries
    }
    for name in (
        "head_motion",
        "mouth_motion",
        "blink_rate",
        "flicker",
    ):  # facts without real clips: of no rank
        assert set(rank[name].values()) == {None}
        assert values[FROZEN][name] < values["original"][name], name
    print(markdown_text([board], "trial"))


if (
    __name__ == "__main__"
):  # the evidence: PYTHONPATH=. python tests/experiments/test_leaderboard_trial.py FOLDER
    import sys

    place, material = Path(sys.argv[1]), Path(os.environ["IFMDM_TEST_SHARED"])
    make_material(material, place)
    found = make_boards(read_entries(judge_all(material, place)))
    (place / "board.md").write_text(markdown_text(found, "Trial"))
    (place / "board.csv").write_text(csv_text(found))
    write_html(found, place / "board.html", "Trial")
