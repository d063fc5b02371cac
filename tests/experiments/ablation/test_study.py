"""What an ablation study trains, keeps and tells, with jobs that leave behind what real ones do."""

import argparse
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from datamodules.errors import UserError
from experiments.ablation.command import read_study, run, split_words, write_study
from experiments.ablation.jobs import Job, run_job, run_jobs
from experiments.ablation.plan import CONTROL, FULL, Keys, Training, plan
from experiments.ablation.study import Workshop, run_study, wait_for
from experiments.evaluation_setup import compose_evaluation, set_up_config
from lightning_modules.audio_frontend import AudioFrontend
from tests.experiments.test_ablations import speech_model

WORDS = ["ablation=no_hint,target_epsilon,steps_4", "base=synthetic_tiny", "seeds=0,1"]


class KnownData(Keys):
    """Keys without data on the disk."""

    def manifest(self, plain):
        return f"manifest of {plain['data']['root']}"


@functools.cache  # composing configs takes seconds
def _study(*words):
    return read_study(*split_words(words or WORDS))


@pytest.fixture(scope="module")
def rows():
    return plan(_study(), KnownData())


class Jobs:
    """Does what jobs do; ``failing`` are parts of titles, ``most`` jobs are done before the program is killed."""

    def __init__(self, failing=(), most=10**6, stopped_evaluating=False):
        self.failing, self.most, self.done = failing, most, []
        self.stopped_evaluating = stopped_evaluating

    def __call__(self, chains, parallel, launcher, told):
        for chain in chains:
            for job in chain:
                if len(self.done) >= self.most:
                    raise KeyboardInterrupt
                self.done.append(job.title)
                if not self._run(job):
                    break

    def _run(self, job: Job) -> bool:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.failure.unlink(missing_ok=True)
        if any(part in job.title for part in self.failing):
            job.failure.write_text("train ended with status 2: the training diverged\n")
            return False
        for words in job.commands:
            given = dict(word.partition("=")[::2] for word in words if "=" in word)
            if words[0] == "train":
                self._trained(Path(given["run_dir"].strip("'")))
            if words[0] == "package":
                Path(words[-1]).mkdir(parents=True)  # as the command, not where one is
            if words[0] == "evaluate":
                if self.stopped_evaluating:
                    raise KeyboardInterrupt
                self._evaluated(Path(given["output"].strip("'")), given)
        return True

    def _trained(self, run_dir):
        (run_dir / "checkpoints").mkdir(parents=True)
        (run_dir / "checkpoints" / "last.ckpt").write_text("weights")
        (run_dir / "run.json").write_text(json.dumps({"seconds": 60, "identity": {"commit": "abc"}}))

    def _evaluated(self, output, given):
        facts = {key[7:]: value.strip("'") for key, value in given.items() if key.startswith("+facts.")}
        interval = {"value": 0.5, "low": None, "high": None, "n": 1}
        results = {
            "protocol": {"name": "synthetic-v2", "hash": "0" * 16},
            "method": "m",
            "run": {"facts": facts},
            "metrics": {"lip_corr_zero": interval},
            "clips": [{"clip": "c", "identity": "i", "lip_corr_zero": 0.5}],
            "missing": [],
        }
        output.mkdir(parents=True, exist_ok=True)
        (output / "results.json").write_text(json.dumps(results))


@pytest.fixture(autouse=True)
def known_cost(monkeypatch):
    monkeypatch.setattr("experiments.ablation.study.parameters_of", lambda run: 10)


def _run(rows, folder, jobs, **more):
    return run_study(_study(), rows, Workshop(folder, run_jobs=jobs, **more))


def test_rows_are_the_full_model_the_control_and_the_ablations(rows):
    assert [row.name for row in rows] == [FULL, CONTROL, "no_hint", "target_epsilon", "steps_4"]
    assert [one.seed for one in rows[1].members] == [10, 11]


def test_stages_are_trained_once_for_all_that_share_them(rows, tmp_path):
    jobs = Jobs()
    _run(rows, tmp_path, jobs)
    trained = [title.split()[1].split("-")[0] for title in jobs.done if title.startswith("train")]
    # Stages before the ablated one once; of the last one full, A/A and two ablations at two seeds, steps_4 none.
    assert [trained.count(stage) for stage in ("autoencoder", "statistics", "diffusion")] == [1, 1, 8]
    assert sum(title.startswith("evaluate") for title in jobs.done) == 10
    # The first seed of every row comes before the second of any.
    seeds = [title[-1] for title in jobs.done if title.startswith("evaluate") and "AA" not in title]
    assert seeds == sorted(seeds)


def test_a_study_goes_on_where_it_was_stopped(rows, tmp_path):
    whole = _run(rows, tmp_path / "whole", Jobs())
    counts = []
    for most in (1, 3, 4, 5, 100):
        jobs = Jobs(most=most)
        try:
            found = _run(rows, tmp_path / "parts", jobs)
        except KeyboardInterrupt:
            counts.append(len(jobs.done))
    assert counts == [1, 3, 4, 5]
    assert len(jobs.done) == 20 - 13
    assert [[one.results for one in row.members] for row in found] == [
        [one.results for one in row.members] for row in whole
    ]


def test_an_evaluation_that_was_stopped_is_done_again_with_its_model(rows, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _run(rows, tmp_path, Jobs(stopped_evaluating=True))
    assert len(list((tmp_path / "models").iterdir())) == 1
    assert not any(row.failures() for row in _run(rows, tmp_path, Jobs()))


def test_results_alone_are_enough(rows, tmp_path):
    first = _run(rows, tmp_path, Jobs())
    shutil.rmtree(tmp_path / "runs")
    again = Jobs()
    second = _run(rows, tmp_path, again)
    assert not again.done
    assert second == first


@pytest.fixture(scope="module")
def hubert(fake_clips, tmp_path_factory):
    """A tiny HuBERT, and the words of a study whose one ablation hears by it."""
    folder = tmp_path_factory.mktemp("hubert")
    source = speech_model("hubert", folder / "speech")
    encoder = "model/audio_encoder@model.network.audio_encoder=speech_model"
    overrides = f"overrides: [audio.name=hubert, audio.source={source}, {encoder}]"
    (folder / "hears.yaml").write_text(f"# Does a speech model help?\nstage: diffusion\n{overrides}\n")
    words = [f"ablation={folder / 'hears.yaml'}", "base=synthetic_tiny", "control=none"]
    return source, [*words, f"data.root={fake_clips}"]


class Evaluations(Jobs):
    """Keeps the words of the evaluations, without their model."""

    def __init__(self):
        super().__init__()
        self.words = {}

    def _evaluated(self, output, given):
        self.words[output.name] = [f"{key}={value}" for key, value in given.items() if key != "model"]
        super()._evaluated(output, given)


def test_a_row_is_evaluated_by_the_speech_model_that_it_was_trained_by(hubert, build_model, tmp_path):
    source, words = hubert
    study, jobs = _study(*words), Evaluations()
    run_study(study, plan(study, KnownData()), Workshop(tmp_path / "study", run_jobs=jobs))
    for row, frontend in (("full", AudioFrontend()), ("hears", AudioFrontend("hubert", source))):
        build_model(frontend=frontend).save_pretrained(tmp_path / row)
        asked = [*jobs.words[f"{row}-diffusion-seed0"], f"model={tmp_path / row}"]
        config = compose_evaluation(asked, "evaluate")
        assert config["speech_model"] == frontend.source
        model = set_up_config(config, load_judge=lambda *given, **more: SimpleNamespace(name="none")).model
        assert model.frontend.identity() == frontend.identity()


def test_other_settings_are_other_results(rows, tmp_path):
    _run(rows, tmp_path, Jobs())
    words = [*WORDS, "diffusion.trainer.max_steps=7"]
    again = Jobs()
    with pytest.raises(UserError, match=r"full-diffusion-seed0: was made with other settings"):
        run_study(_study(*words), plan(_study(*words), KnownData()), Workshop(tmp_path, run_jobs=again))
    assert not again.done
    shutil.rmtree(tmp_path / "results")
    run_study(_study(*words), plan(_study(*words), KnownData()), Workshop(tmp_path, run_jobs=again))
    assert sum("diffusion" in title for title in again.done if title.startswith("train")) == 8
    assert not any("autoencoder" in title or "statistics" in title for title in again.done)


def test_a_training_that_fails_is_a_row_that_says_so(rows, tmp_path):
    broken = rows[2].members[0].stages["diffusion"]
    assert isinstance(broken, Training)
    found = _run(rows, tmp_path, Jobs(failing=[broken.name]))
    told = {row.name: row.failures() for row in found}
    assert told["no_hint"] == ["seed 0: train ended with status 2: the training diverged"]
    assert not any(failures for name, failures in told.items() if name != "no_hint")
    write_study(tmp_path, _study(), found, WORDS)
    assert "no_hint, seed 0: train ended" in (tmp_path / "ablations.md").read_text()
    # It is not tried again unless asked for.
    again = Jobs()
    _run(rows, tmp_path, again)
    assert not again.done
    assert _run(rows, tmp_path, again, retry=True)[2].failures() == []


def test_two_ablations_of_one_name_are_refused(tmp_path):
    (tmp_path / "no_hint.yaml").write_text("# Mine.\nstage: diffusion\noverrides: [model.network.depth=1]\n")
    with pytest.raises(UserError, match="two are called no_hint"):
        _study(f"ablation=no_hint,{tmp_path / 'no_hint.yaml'}", "base=synthetic_tiny")


def test_the_order_of_words_is_no_other_setting(rows, tmp_path):
    words = ("evaluation.clips=2", "evaluation.max_frames=40")
    names = [
        {one.key for row in plan(_study(*WORDS, *each), KnownData()) for one in row.members}
        for each in (words, words[::-1])
    ]
    assert names[0] == names[1]
    assert names[0] != {one.key for row in rows for one in row.members}


def test_data_of_ones_own_are_of_all_stages():
    study = _study(*WORDS, "data=folder", "data.root=/mine")
    assert all("data=folder" in study.words_of(stage) for stage in study.stages())
    assert "data.root=/mine" in study.words["evaluation"]


def test_a_stage_that_is_given_is_shared(monkeypatch):
    monkeypatch.setattr(KnownData, "given", lambda self, path: "its weights")
    found = plan(_study(*WORDS, "autoencoder=synthetic-128"), KnownData())
    given = found[0].members[0].stages["autoencoder"]
    assert isinstance(given, Path)
    assert given.parts[-3:] == ("synthetic-128", "autoencoder", "model.safetensors")
    words = ("ablation=templates_10", "base=synthetic_tiny", "autoencoder=synthetic-128")
    with pytest.raises(UserError, match=r"leave autoencoder=.* out"):
        plan(_study(*words), KnownData())
    with pytest.raises(UserError, match="autoencoder=nowhere: no such run"):
        _study(*WORDS, "autoencoder=nowhere")


def test_where_nothing_is_trained_there_is_one_model_a_row(monkeypatch):
    monkeypatch.setattr(KnownData, "given", lambda self, path: "its weights")
    given = [f"{stage}=synthetic-128" for stage in ("autoencoder", "statistics", "diffusion")]
    words = ("ablation=steps_4", "base=synthetic_tiny", "seeds=0,1,2")
    assert [len(row.members) for row in plan(_study(*words, *given), KnownData())] == [1, 1]
    with pytest.raises(UserError, match="give the autoencoder= that it was trained on"):
        plan(_study(*words, *given[1:]), KnownData())


def test_moved_data_are_the_same_data(rows):
    class Moved(KnownData):
        def manifest(self, plain):
            return "one manifest"

    keys = [
        {one.key for row in plan(_study(*WORDS, f"data.root={root}"), Moved()) for one in row.members}
        for root in ("/here", "/there")
    ]
    assert keys[0] == keys[1]


def test_reconstruction_trains_the_autoencoder_alone(tmp_path):
    words = ["ablation=no_local_flow", "base=synthetic_tiny", "task=reconstruction"]
    jobs = Jobs()
    run_study(_study(*words), plan(_study(*words), KnownData()), Workshop(tmp_path, run_jobs=jobs))
    assert [title.split("-")[0] for title in jobs.done if title.startswith("train")] == [
        "train autoencoder"
    ] * 3
    with pytest.raises(UserError, match="which task=reconstruction does not train"):
        plan(_study("ablation=no_hint", "base=synthetic_tiny", "task=reconstruction"), KnownData())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ablation=no_hint"], "give ablation=A,B and base=NAME"),
        (["ablation=no_hint", "base=nowhere"], "base=nowhere: there are"),
        (["ablation=nothing", "base=synthetic_tiny"], "ablation=nothing: .*there are"),
        (["ablation=no_hint,no_hint", "base=synthetic_tiny"], "two are called no_hint; name one"),
        (["ablation=no_perceptual", "base=synthetic_tiny"], "changes nothing in base=synthetic_tiny"),
        (["ablation=no_hint", "base=synthetic_tiny", "seeds=0,x"], "give whole numbers"),
        (["ablation=no_hint", "base=synthetic_tiny", "seeds=10"], "which would be the same run"),
        (["ablation=no_hint", "base=synthetic_tiny", "task=other"], "choose one of generation"),
        (["ablation=no_hint", "base=synthetic_tiny", "seed=3"], "'seed': no word of a study"),
        (["ablation=no_hint", "ablation=no_std", "base=synthetic_tiny"], "given twice"),
        (["ablation=no_hnt", "base=synthetic_tiny"], "did you mean no_hint"),
        (["ablation=no_hint", "base=synthetic_tiny", "evaluation.clps=2"], "did you mean clips"),
        (["no_hint"], "write KEY=VALUE"),
    ],
)
def test_wrong_words_are_one_line(words, told):
    with pytest.raises(UserError, match=told):
        _study(*words)


@pytest.mark.parametrize("word", ["retry=yes", "parallel=0", "parallel=many"])
def test_wrong_words_of_the_work_are_one_line(tmp_path, word):
    words = ["ablation=no_hint", "base=synthetic_tiny", f"output={tmp_path / 'study'}", word]
    with pytest.raises(UserError, match=word):
        run(argparse.Namespace(words=words))


def _job(tmp_path, name, *words):
    return Job(name, [list(words)], tmp_path / f"{name}.log")


def test_a_command_that_fails_says_its_last_line_and_ends_its_chain_alone(tmp_path):
    wrong = _job(tmp_path, "wrong", "report", str(tmp_path / "nowhere"))
    never, other = _job(tmp_path, "never", "--version"), _job(tmp_path, "other", "--version")
    told = []
    run_jobs([[wrong, never], [other]], parallel=2, told=told.append)
    assert "nowhere" in wrong.failure.read_text()
    assert wrong.failure.read_text().startswith("report ended with status 2: ")
    assert not never.log.exists()
    assert "ifmdm" in other.log.read_text()
    assert not other.failure.exists()
    assert any("FAILED" in line for line in told)


def _as_python(run, command, **more):
    """Runs the words of a command of ours as those of Python."""
    return run([command[0], *command[3:]], **more)


def test_what_was_interrupted_did_not_fail(tmp_path, monkeypatch):
    killed = _job(tmp_path, "killed", "-c", "import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(
        "experiments.ablation.jobs.subprocess.run", functools.partial(_as_python, subprocess.run)
    )
    assert "signal SIGKILL (out of memory?)" in (run_job(killed) or "")
    assert killed.failure.exists()
    monkeypatch.undo()
    monkeypatch.setattr("sys.executable", "/bin/false")
    job = _job(tmp_path, "job", "train")
    monkeypatch.setattr("experiments.ablation.jobs.STOPPED", (1,))
    assert run_job(job) is not None
    assert not job.failure.exists()


def test_a_training_that_outlived_its_study_is_waited_for(tmp_path):
    (tmp_path / ".lock").touch()
    holding = "import sys, time, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire()"
    holding += "; print('held', flush=True); time.sleep(1)"
    with subprocess.Popen(
        [sys.executable, "-c", holding, tmp_path / ".lock"], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        wait_for(tmp_path)
        # A process that still slept would not end at once.
        assert other.wait(timeout=0.5) == 0
