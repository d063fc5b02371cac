"""Networks hear by the speech model that they were trained by: runs and model folders know which, as far as theirs did."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file

from datamodules.errors import UserError
from experiments.package import pack_model
from experiments.resuming import refuse_other_network
from experiments.run_folder import record_of
from lightning_modules.audio_frontend import AudioFrontend
from lightning_modules.checkpoints import read_network_record
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.model_folder import STAGES
from tests.experiments.test_ablations import speech_model
from tests.lightning_modules.test_hostile_folders import write_run


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(speech_model("hubert", tmp_path_factory.mktemp("speech") / "one"))


@pytest.fixture(scope="module")
def other(speech: Path) -> Path:
    """A speech model of the same size and other weights."""
    folder = shutil.copytree(speech, speech.with_name("other"))
    weights = load_file(folder / "model.safetensors")
    changed = {name: value * 1.5 for name, value in weights.items()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def model(build_model: Any, speech: Path) -> TalkingHead:
    return build_model(frontend=AudioFrontend("hubert", str(speech)))


@pytest.fixture
def runs(model: TalkingHead, speech: Path, tmp_path: Path) -> list[Path]:
    """Runs of today, whose records say the identity."""
    audio = {"name": "hubert", "source": str(speech), "identity": model.frontend.identity()}
    return [write_run(tmp_path / stage, model, stage, audio) for stage in STAGES]


def rewrite(run: Path, **audio: str) -> None:
    """Let a run's record say this of the audio."""
    record = json.loads((run / "network.json").read_text())
    (run / "network.json").write_text(json.dumps({**record, "audio": audio}))


def test_a_training_notes_what_it_heard_by(model: TalkingHead, speech: Path, runs: list[Path]) -> None:
    audio = {"_target_": "lightning_modules.audio_frontend.AudioFrontend", "source": str(speech)}
    plain = {"stage": "diffusion", "data": {"task": "motion_windows"}, "autoencoder": str(runs[0])}
    trained = SimpleNamespace(network=model.denoiser, diffusion=model.diffusion)
    record = record_of({**plain, "audio": {**audio, "name": "hubert"}}, trained)
    assert record.audio == read_network_record(runs[2]).audio
    mel = record_of({**plain, "audio": {**audio, "name": "mel", "source": None}}, trained)
    assert mel.audio == {"name": "mel", "source": None}


def test_a_packed_model_hears_by_no_other(
    model: TalkingHead, speech: Path, other: Path, runs: list[Path], tmp_path: Path
) -> None:
    pack_model(*runs, tmp_path / "packed")
    audio = json.loads((tmp_path / "packed" / "config.json").read_text())["audio"]
    assert audio == {"name": "hubert", "identity": model.frontend.identity()}
    TalkingHead.from_pretrained(tmp_path / "packed", speech)
    with pytest.raises(UserError, match=r"was trained by .* --speech-model \(speech_model= of"):
        TalkingHead.from_pretrained(tmp_path / "packed", other)
    config = json.loads((tmp_path / "packed" / "config.json").read_text()) | {"audio": {"name": "hubert"}}
    (tmp_path / "packed" / "config.json").write_text(json.dumps(config))
    TalkingHead.from_pretrained(tmp_path / "packed", other)  # a folder of before
    sizes = json.loads((speech / "config.json").read_text()) | {"hidden_size": 8}
    smaller = tmp_path / "smaller"
    transformers.HubertModel(transformers.HubertConfig(**sizes)).save_pretrained(smaller)
    with pytest.raises(UserError, match=r"don't take the features of hubert: .* --speech-model"):
        TalkingHead.from_pretrained(tmp_path / "packed", smaller)


def test_stages_of_one_model_are_packed_however_it_was_named(
    model: TalkingHead, speech: Path, runs: list[Path], tmp_path: Path
) -> None:
    identity = model.frontend.identity()
    model.save_pretrained(tmp_path / "folder", half=False)
    pack_model(runs[0], tmp_path / "folder", runs[2], tmp_path / "of a folder")
    rewrite(runs[1], name="hubert", source="facebook/hubert", identity=identity)
    pack_model(*runs, tmp_path / "of another spelling")
    rewrite(runs[1], name="hubert", source=str(speech))  # a run of before
    pack_model(*runs, tmp_path / "of before")
    for audio in (
        {"name": "hubert", "source": str(speech), "identity": "hubert-0"},
        {"name": "hubert", "source": "facebook/hubert"},
        {"name": "wav2vec2", "source": str(speech), "identity": identity},
    ):
        rewrite(runs[1], **audio)
        with pytest.raises(UserError, match="different audio features"):
            pack_model(*runs, tmp_path / "never")


def test_a_run_of_before_is_resumed_and_one_of_another_speech_model_is_not(
    model: TalkingHead, speech: Path, runs: list[Path]
) -> None:
    record, checkpoint = read_network_record(runs[2]), runs[2] / "checkpoints" / "last.ckpt"
    for identity, told in (
        ({}, "no state of an optimizer"),
        ({"identity": "hubert-0"}, "audio.identity=hubert-0"),
    ):
        rewrite(runs[2], name="hubert", source=str(speech), **identity)
        with pytest.raises(UserError, match=told):
            refuse_other_network(checkpoint, runs[2], record, model)
