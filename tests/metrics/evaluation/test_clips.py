"""Which clips are judged and how they are read: stems, people, speech, sizes, lengths; and the identity of the data."""

import dataclasses
import json
import shutil
import unicodedata

import numpy as np
import pytest

from datamodules.clips.annotations import read_annotations, write_annotations
from datamodules.clips.dataset_folder import SETTINGS_NAME
from datamodules.clips.manifest import SYNTHETIC_SOURCE, read_manifest, write_manifest
from datamodules.errors import UserError
from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import framing
from datamodules.media.audio import write_wav
from datamodules.media.video import VideoReader, read_video, write_video
from metrics.av_correlation import SpokenClip
from metrics.evaluation.clip_results import ClipResult
from metrics.evaluation.clips import (
    ClipFiles,
    ClipSet,
    match_videos,
    reference_clips,
    spare_clips,
    with_speakers,
)
from metrics.evaluation.loading import find_crop, load_clip, resize
from metrics.evaluation.protocol import get_protocol
from metrics.evaluation.speech import add_speech
from tests.datamodules.media.numbered_videos import remux, shredded

FRAMES = 60
READING = get_protocol("talking-head-v2", size=64).reading


def named(videos, reference, **options):
    return {clip.name: clip for clip in match_videos(videos, reference, **options)[0].judged}


def test_a_prepared_folder_gives_identity_split_and_speech(fake_clips, tmp_path):
    records = {record.id: record for record in read_manifest(fake_clips)}
    test = next(record for record in records.values() if record.split == "test")
    for name in (test.id, "fake0"):
        shutil.copy(fake_clips / records[name].video, tmp_path)
    data, missing = match_videos(tmp_path, fake_clips)
    (files,) = data.judged
    assert (files.name, files.identity, files.split, files.frames) == (test.id, test.identity, "test", 90)
    assert files.speech.suffix == ".wav"
    assert [one["clip"] for one in missing] == ["fake0"]
    clip = load_clip(files, get_protocol("synthetic-v2").reading)
    assert clip.real.shape == (90, 32, 32, 3)
    assert len(clip.waveform) == 90 * 640


def test_clips_that_do_not_fit_are_refused(reference, tmp_path, studio):
    lips, _ = studio.spoken(2)
    write_video(tmp_path / "ben.mp4", studio.draw(lips, 0 * lips, 1)[:, :32])
    files = named(tmp_path, reference)["ben"]
    with pytest.raises(ValueError, match="another shape"):
        load_clip(files, READING)
    with pytest.raises(ValueError, match="too short"):
        load_clip(files, dataclasses.replace(READING, max_frames=8))
    with pytest.raises(UserError, match="one subfolder for each sampling seed"):
        match_videos(tmp_path, reference, seeds=True)


def test_only_the_frames_that_are_judged_are_decoded(videos, reference, monkeypatch):
    decoded, get = [], VideoReader.get
    monkeypatch.setattr(VideoReader, "get", lambda self, at: decoded.append(len(at)) or get(self, at))
    pairs = named(videos, reference)
    short = dataclasses.replace(READING, max_frames=20)
    clip = load_clip(pairs["ben"], short, decoded=7 * 3 * 64 * 64)  # in several parts
    assert (sum(decoded), max(decoded)) == (40, 7)
    assert (clip.real == read_video(pairs["ben"].reference)[:20]).all()
    assert (clip.rows["generated"][0] == resize(read_video(pairs["ben"].takes[0]), 64, 64)[:20]).all()
    assert clip.waveform.shape == (20 * 640,)
    with pytest.raises(ValueError, match=r"a2\.mp4 has 50 frames at 25 fps, the reference 60"):
        load_clip(pairs["a2"], short)


def test_names_match_however_the_file_system_spells_them(videos, reference, tmp_path):
    for folder, form, source in (("v", "NFD", videos / "ben.mp4"), ("r", "NFC", reference / "ben.mp4")):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / (unicodedata.normalize(form, "Bjørn-é 名前") + ".MP4"))
    data, missing = match_videos(tmp_path / "v", tmp_path / "r")
    assert not missing
    assert len(load_clip(data.judged[0], READING)) == FRAMES
    clips = []
    for form in ("NFD", "NFC"):
        folder = tmp_path / form / unicodedata.normalize(form, "Zoë")
        folder.mkdir(parents=True)
        shutil.copy(reference / "ben.mp4", folder)
        clips.append(reference_clips(tmp_path / form)["ben"])
    assert clips[0].identity == clips[1].identity == clips[1].voice
    assert ClipSet((clips[0],)).identity(READING) == ClipSet((clips[1],)).identity(READING)


def test_files_that_cannot_be_read_are_listed_with_their_name(videos, reference, tmp_path, studio):
    for folder, source in (("v", videos), ("r", reference)):
        (tmp_path / folder).mkdir()
        for name in ("one", "cut", "flat", "good", "empty", "lost"):
            shutil.copy(source / "ben.mp4", tmp_path / folder / f"{name}.mp4")
    (tmp_path / "v/folder.mp4").mkdir()
    write_video(tmp_path / "v/one.mp4", studio.draw(np.zeros(1), np.zeros(1), 0))
    write_video(tmp_path / "v/flat.mp4", studio.draw(np.zeros(FRAMES), np.zeros(FRAMES), 0)[:, :32])
    for name, share in (("cut", 0.5), ("empty", 0)):
        content = (tmp_path / f"v/{name}.mp4").read_bytes()
        (tmp_path / f"v/{name}.mp4").write_bytes(content[: int(share * len(content))])
    (tmp_path / "r/lost.mp4").unlink()
    (tmp_path / "r/lost.mp4").symlink_to(tmp_path / "nowhere.mp4")
    found = studio.judge_videos(tmp_path / "v", tmp_path / "r")
    assert [one["clip"] for one in found["clips"]] == ["good"]
    for name, why in (
        ("one", "one.mp4 has 1 frames at 25 fps, the reference 60"),
        ("cut", "v/cut.mp4: cut off after 1.0 of 2.4 s"),
        ("empty", "v/empty.mp4: the video file is empty"),
        ("flat", "v/flat.mp4: 64 x 32 pixels have another shape"),
        ("lost", "no reference clip of this stem"),
    ):
        assert why in studio.whys(found, name)


@pytest.mark.parametrize("damaged", ["v", "r"])
def test_frames_that_the_decoder_made_up_are_listed(videos, reference, tmp_path, studio, damaged):
    for folder, source in (("v", videos), ("r", reference)):
        (tmp_path / folder).mkdir()
        shutil.copy(source / "ben.mp4", tmp_path / folder)
    whole = (tmp_path / damaged / "ben.mp4").rename(tmp_path / "whole.mp4")
    remux(whole, tmp_path / damaged / "ben.mp4", change=shredded, changed=[FRAMES - 4])
    found = studio.judge_videos(tmp_path / "v", tmp_path / "r")
    assert f"{damaged}/ben.mp4: 1 of 60 frames are damaged" in studio.whys(found, "ben")


def test_of_two_faces_one_is_followed():
    left, right = FaceBox(10, 10, 40, 50), FaceBox(60, 12, 91, 53)
    moved = FaceBox(64, 12, 93, 53)
    looks = iter([[left, right], [right], [left], [left, moved], [left, right]])
    frames = np.zeros((5, 100, 100, 3), np.uint8)
    assert find_crop(frames, lambda frame: next(looks)) == framing(left)
    with pytest.raises(ValueError, match="no face found in 5 of 5"):
        find_crop(frames, lambda frame: [])


def test_resizing_keeps_the_mean_and_does_not_alias():
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[:, ::2] = 200
    small = resize(frames, 16, 16)
    assert small.shape == (2, 16, 16, 3)
    assert small[:, 2:-2].astype(int) == pytest.approx(100, abs=12)
    assert resize(frames, 64, 64) is frames


def test_shuffled_speech_is_the_next_other_voice_that_can_be_heard(tmp_path):
    clips = []
    for number, voice in enumerate("aabcd"):
        path = tmp_path / f"{number}.wav"
        write_wav(path, np.full(1280, (number + 1) / 10, np.float32))
        clips.append(ClipFiles(str(number), path, path, (), voice, voice))
    (tmp_path / "2.wav").write_bytes(b"no sound")
    data = ClipSet(tuple(clips[:4]), (clips[4],))

    def level(place: int) -> float:
        found = data.foreign_speech(place, 3)
        assert found.waveform.shape == (3 * 640,)  # repeated to the length
        return float(np.median(found.waveform))

    assert level(0) == pytest.approx(0.4, abs=1e-3)  # past its own voice and the broken one
    assert data.foreign_speech(0, 3).voice == "c"
    assert level(4) == pytest.approx(0.1, abs=1e-3)  # after the last comes the first
    write_wav(tmp_path / "3.wav", np.zeros(1280, np.float32))
    assert data.foreign_speech(0, 3).voice == "d"  # past silence
    assert ClipSet(tuple(clips[:3])).foreign_speech(0, 3) is None


def test_sound_that_ends_before_the_pictures_is_none(reference, videos, tmp_path, studio):
    shutil.copytree(reference, tmp_path / "reference")
    speech = studio.spoken(2)[1]
    write_wav(tmp_path / "reference/ben.wav", speech[: 58 * 640])
    files = named(videos, tmp_path / "reference")["ben"]
    assert len(load_clip(files, READING).waveform) == FRAMES * 640  # two frames of silence
    write_wav(tmp_path / "reference/ben.wav", speech[: 57 * 640])
    clip = load_clip(files, READING)
    assert clip.waveform is None
    assert "ben.wav: its sound lasts 57 frames, the pictures 60" in clip.silence


@pytest.fixture
def prepared(fake_clips, tmp_path):
    folder = tmp_path / "prepared"
    shutil.copytree(fake_clips, folder)
    return folder


def identity(folder, reading=READING, judged=1, split="train"):
    clips = [clip for _, clip in sorted(reference_clips(folder, split).items())]
    return ClipSet(tuple(clips[:judged]), spare_clips(clips[:judged], clips)).identity(reading)


def test_re_encoded_bytes_do_not_change_the_identity_of_the_data(prepared):
    clips = tuple(reference_clips(prepared, "train").values())
    kinds = ("reference", "speech", "phones", "annotations")
    before, files = identity(prepared), ClipSet(clips).files_hash(*kinds)
    assert (identity(prepared), ClipSet(clips).files_hash(*kinds)) == (before, files)
    write_video(clips[0].reference, read_video(clips[0].reference), crf=30)
    assert identity(prepared) == before
    assert ClipSet(clips).files_hash(*kinds) != files  # a note that the bytes are others


@pytest.mark.parametrize(
    "key", ["id", "source", "start", "frames", "size", "crop", "identity", "voice", "split"]
)
def test_the_identity_of_the_data_covers(key, prepared):
    """Of a judged clip, and of a spare one, as judges are fitted on it."""
    before = identity(prepared)
    changed = {"start": 1.5, "frames": 80, "size": 96, "crop": [0.0, 0.0, 9.0, 9.0], "split": "val"}.get(
        key, "zz-other"
    )
    for place in (0, 1):
        records = read_manifest(prepared)
        training = [k for k, record in enumerate(records) if record.split == "train"]
        records[training[place]] = dataclasses.replace(records[training[place]], **{key: changed})
        other = prepared.parent / f"other{place}"
        shutil.copytree(prepared, other)
        write_manifest(other, records)
        assert identity(other) != before


def test_the_identity_of_the_data_covers_how_they_are_read(prepared):
    others = {
        identity(prepared, dataclasses.replace(READING, **change))
        for change in ({"size": 32}, {"crop": "face"}, {"max_frames": 20}, {"shortest": 8})
    }
    assert len(others | {identity(prepared), identity(prepared, judged=2)}) == 6


@pytest.mark.parametrize("change", [{"domain": "wide"}, {"version": 2}, {"seed": 1}, {}])
def test_the_identity_of_drawn_clips_covers_what_drew_them(change, prepared):
    records = read_manifest(prepared)
    settings = {"version": 1, "domain": "plain", "seed": 0}

    def told(drawn, settings):
        source = SYNTHETIC_SOURCE if drawn else "talk.mp4"
        write_manifest(prepared, [dataclasses.replace(one, source=source) for one in records])
        (prepared / SETTINGS_NAME).write_text(json.dumps(settings))
        return identity(prepared)

    assert (told(True, settings) == told(True, settings | change)) == (not change)
    assert told(False, settings) == told(
        False, settings | change
    )  # others are named by source, place and crop


def test_the_identity_of_plain_clips_covers_their_size(reference, tmp_path):
    def stored(name, size):
        (tmp_path / name).mkdir()
        frames = resize(read_video(reference / "ben.mp4"), size, size)
        write_video(tmp_path / name / "ben.mp4", frames, crf=8 if name == "a" else 30)
        return identity(tmp_path / name, split="test")

    assert stored("a", 64) == stored("b", 64) != stored("c", 96)
    (tmp_path / "c/ben.mp4").write_bytes(b"")  # it is listed as missing, and ends nothing
    assert identity(tmp_path / "c", split="test")


def test_phones_and_truth_have_hashes_of_their_own(prepared, reference, studio, tmp_path):
    """They are judges of a kind: alignments move lip closure alone, truth the lips against it alone."""

    def all_of(folder, split="test"):
        return ClipSet(tuple(reference_clips(folder, split).values()))

    data = all_of(prepared, "train")
    truth = data.files_hash("annotations")
    path = data.judged[0].annotations
    known = read_annotations(path).arrays
    write_annotations(path, {**known, "lip_opening": known["lip_opening"] * 2}, {})
    assert data.files_hash("annotations") != truth
    assert all_of(reference).phones_hash() is None
    aligned = studio.with_phones(reference, tmp_path / "aligned")
    phones = all_of(aligned).phones_hash()
    (aligned / "ben.phones.csv").write_text("start,end,phone\n0,1,m")
    assert phones != all_of(aligned).phones_hash() is not None
    gone = dataclasses.replace(data.judged[0], reference=tmp_path / "gone.mp4", frames=None)
    assert ClipSet((gone,)).files_hash("reference")  # a clip that vanishes does not end the evaluation
    assert gone.probed() == (0, (0, 0))


def test_further_speakers_teach_lips_also_where_their_files_are_called_as_judged_ones(
    videos, reference, tmp_path, studio
):
    """Numbered clips of two folders have the same stems; each is another person's all the same."""
    data, _ = match_videos(videos, reference)
    assert with_speakers(data, None) is data
    folder = tmp_path / "others"
    for number, name in enumerate((data.judged[0].name, "x", "y", "z"), 10):
        lips, speech = studio.spoken(number)
        person = folder / f"person{number}"
        person.mkdir(parents=True)
        write_video(person / f"{name}.mp4", studio.draw(lips, 0 * lips, number % 3), audio=speech, crf=8)
    taught = with_speakers(data, folder)
    assert taught.judged == data.judged
    assert len(taught.spare) == len(data.spare) + 4
    assert len({clip.name for clip in taught.all}) == len(taught.all)
    assert taught.identity(READING) != data.identity(READING)
    fitted = [[clip.fitted for clip in add_speech_of(one, studio)] for one in (data, taught)]
    assert fitted[1] == [count + 4 for count in fitted[0]]
    shutil.copy(data.judged[0].reference, folder / "copy.mp4")
    shutil.copy(data.judged[0].takes[0], folder / "made.mp4")
    assert with_speakers(data, folder) == taught
    for judged in (reference, videos):
        with pytest.raises(UserError, match="no other speakers"):
            with_speakers(data, judged)


def add_speech_of(data, studio):
    """Results of the judged clips, their lips held against their speech."""
    judges, results = studio.stand_ins(), []
    for number, files in enumerate(data.judged):
        lips, sound = studio.spoken(number)
        spoken = SpokenClip(files.identity, files.voice, sound, lips)
        results.append(ClipResult(files, {"real": [lips], "generated": [lips]}, spoken))
    add_speech(results, data, studio.PROTOCOL, judges)
    return results


def test_real_speakers_teach_nothing_about_drawn_heads(prepared, reference):
    clips = tuple(reference_clips(prepared, "train").values())
    drawn = ClipSet(tuple(dataclasses.replace(clip, drawn=True) for clip in clips))
    with pytest.raises(UserError, match="of one kind"):
        with_speakers(drawn, reference)
