"""The demo: its steps in order, what it keeps, and the folder it works in; `test_every_command.py` runs what it calls."""

import json

import pytest

from datamodules.errors import UserError
from experiments.config import compose
from experiments.demo import MARKER_NAME, STAGES, TIME_LIMITS, UNDRAWN, Demo, Step


def fake_steps(demo: Demo, taken: list[str]) -> list[Step]:
    """Steps of the demo's names that write their result and note that they were taken."""

    def work(step: Step) -> None:
        taken.append(step.name)
        step.result.parent.mkdir(parents=True, exist_ok=True)
        step.result.write_text("")

    return [step._replace(work=lambda step=step: work(step)) for step in demo.steps()]


def test_what_is_done_is_not_done_again(tmp_path, caplog):
    caplog.set_level("INFO")
    demo, taken = Demo(tmp_path / "demo", 1, fast=True), []
    steps = fake_steps(demo, taken)
    names = [step.name for step in steps]
    demo.run(steps[:1])
    assert taken == ["portrait"]
    assert "see and hear it" in caplog.messages[-1]
    demo.run(steps)
    demo.run(steps)
    assert taken == names
    assert set(json.loads((tmp_path / "demo" / "times.json").read_text())) == set(names)
    with pytest.raises(UserError, match="fast True instead of False"):
        Demo(tmp_path / "demo", 1, fast=False).run(steps)


@pytest.mark.parametrize("key", ["dataset_version", "version"])
def test_a_folder_of_another_version_is_not_continued(tmp_path, key):
    demo = Demo(tmp_path, 1, fast=True)
    (tmp_path / MARKER_NAME).write_text(json.dumps(demo.settings() | {key: "older"}))
    with pytest.raises(UserError, match=f"other settings.*{key} older instead of") as caught:
        demo.run([])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["runs", "data", "times.json"])
def test_a_folder_with_other_things_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"has {name} but no {MARKER_NAME}"):
        Demo(tmp_path, 1, fast=True).run([])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(UserError, match="is a file"):
        Demo(tmp_path / name, 1, fast=True).run([])


def test_only_a_demo_folder_loses_its_unfinished_run(tmp_path):
    precious = tmp_path / "runs" / "autoencoder" / "last.ckpt"
    precious.parent.mkdir(parents=True)
    precious.write_text("weights")
    called: list[list[str]] = []
    demo = Demo(tmp_path, 1, fast=True, command=called.append)
    with pytest.raises(UserError, match=MARKER_NAME):
        demo.train("autoencoder")
    assert precious.is_file()
    (tmp_path / MARKER_NAME).write_text("{}")
    demo.train("autoencoder")
    assert not precious.exists()
    assert called[0][:3] == ["train", "experiment=autoencoder_demo", "data.size=128"]


@pytest.mark.parametrize("from_scratch", [False, True])
def test_what_the_demo_trains_by_is_a_config_with_an_end(tmp_path, from_scratch):
    called: list[list[str]] = []
    demo = Demo(tmp_path, 1, fast=False, command=called.append, from_scratch=from_scratch)
    for stage in STAGES:
        demo.train(stage)
    found = dict(zip(STAGES, (compose(words[1:]) for words in called), strict=True))
    limits = {stage: config.trainer.max_time for stage, config in found.items()}
    assert limits == (dict.fromkeys(STAGES) if from_scratch else TIME_LIMITS)
    speeches = [config.data.get("undrawn", 0) for config in found.values()]
    assert speeches == [0, UNDRAWN, UNDRAWN]


def test_a_demo_from_scratch_has_other_settings_and_a_smaller_renderer(tmp_path):
    called: list[list[str]] = []
    demo = Demo(tmp_path, 1, fast=True, command=called.append, from_scratch=True)
    demo.claim()
    demo.train("autoencoder")
    demo.train("diffusion")
    assert called[0][:3] == ["train", "experiment=autoencoder_tiny", "data.size=64"]
    assert called[1][:3] == ["train", "experiment=diffusion_tiny", "data.size=64"]
    with pytest.raises(UserError, match="from_scratch True instead of False"):
        Demo(tmp_path, 1, fast=True).claim()
