"""The page about HDTF: every command on it runs, in its order, on seconds of other people's video under HDTF's names."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.clips.manifest import read_manifest
from experiments.ablation.command import read_study, split_words
from experiments.cli import COMMANDS, main
from experiments.config import compose, config_names

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "hdtf.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
SCRIPTS = {block.splitlines()[1].removeprefix("# "): block for block in BLOCKS if block.startswith("#!")}
LINES = [line for block in BLOCKS if not block.startswith("#!") for line in block.splitlines()]
TYPED = [shlex.split(line, comments=True) for line in LINES]
IFMDM = [words[1:] for words in TYPED if words[0] == "ifmdm"]
ELSEWHERE = ("git", "pip")
"""Programs that only fetch something."""

STAND_INS = {
    "WDA_EdMarkey0": "hdtf_wda_edmarkey.mp4", "WDA_AndyKim": "portrait_hevc_beard.mp4",  # test
    "WDA_KatieHill": "hdtf_wda_katiehill.mp4",  # val
    "RD_Radio10": "french_30fps.mp4", "WRA_AllenWest": "vfr_700.mp4",  # train
}  # fmt: skip
"""A name of HDTF -> the video that stands for it; the fixed list says which split it is of."""
OF_TRAINING = [
    "size=small", "data.batch_size=2", "data.num_workers=0", "trainer.accelerator=cpu", "trainer.devices=1",
    "trainer.max_steps=2", "trainer.log_every_n_steps=1", "trainer.check_val_every_n_epoch=1",
]  # fmt: skip
OF_STAGE = {
    "autoencoder": ["model.losses.perceptual=null", "model.gan.start=1", "data.pairs_per_clip=2"],
    "statistics": ["data.windows_per_clip=2"],
    "diffusion": ["data.windows_per_clip=2", "model.network.depth=1"],
}
OF_EVALUATION = ["clips=1", "max_frames=40", "seeds=[0]", "generation.steps=2"]
SLURM = {
    "SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost",
    "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_NAME": "test",
}  # fmt: skip
PARTS = 2
"""Processes of torchrun, and jobs of an array."""


def small(words: list[str]) -> list[str]:
    """What a command needs more to be done in seconds."""
    name, root = words[0], f"data.root=data/hdtf-{512 if 'paper' in ' '.join(words) else 256}"
    if name in ("train", "encode"):
        experiment = next(word for word in words if word.startswith("experiment="))
        stage = experiment.removeprefix("experiment=").partition("_")[0]
        further = ["trainer.max_steps=4"] if "resume=last" in words else []
        workers = ["workers=1"] if name == "encode" else []
        return [*OF_TRAINING, *OF_STAGE[stage], *further, *workers, root]
    if name == "ablate":
        given = [f"{stage}.{word}" for stage, more in OF_STAGE.items() for word in [*OF_TRAINING, *more]]
        return [*given, root, "control=none", *(f"evaluation.{word}" for word in OF_EVALUATION)]
    if name == "sweep":
        return [*OF_EVALUATION[:3], "sweep.values=[1,2]", "sweep.reference=1", "++sweep.points=null"]
    return OF_EVALUATION if name == "evaluate" and "--videos" not in words else []


def as_run(words: list[str]) -> list[str]:
    """A command of the page as it is run here: smaller, on this machine, without the network."""
    if words[:2] == ["assets", "fetch"]:
        return ["assets", "list"]
    words = [word for word in words if word != "launcher=submitit"]
    words = [re.sub(r"^seeds=0,1,2$", "seeds=0", word) for word in words]
    words = [re.sub(r"^ablation=([^,]+),.*", r"ablation=\1", word) for word in words]
    return [*words, *small(words)]


def write_originals(folder: Path, clips: Path) -> None:
    """HDTF's list with four seconds of each stand-in, and the originals that it names."""
    lists, raw = folder / "HDTF" / "HDTF_dataset", folder / "raw" / "hdtf"
    lists.mkdir(parents=True)
    raw.mkdir(parents=True)
    tables: dict[str, str] = {}
    for name, video in STAND_INS.items():
        shutil.copy(clips / video, raw / f"{name}.mp4")
        subset, source = name.split("_", 1)
        lines = {
            "video_url": f"{source} https://nowhere.invalid/{source}",
            "resolution": f"{source} 512",
            "annotion_time": f"{source} 00:00-00:04",
            "crop_wh": f"{source if video.startswith('hdtf') else 'Nobody'}_0.mp4 0 512 0 512",
        }
        for kind, line in lines.items():
            file = f"{subset}_{kind}.txt"
            tables[file] = tables.get(file, "") + line + "\n"
    for file, text in tables.items():
        (lists / file).write_text(text)


def write_programs(folder: Path) -> None:
    """What a script of the page calls: `srun` runs a task here, `ifmdm` the command as the test does."""
    test = Path(__file__)
    lines = [f"#!{sys.executable}", "import sys", f"sys.path[:0] = [{str(test.parent)!r}, {str(ROOT)!r}]"]
    lines += [f"from {test.stem} import as_run, main"]
    lines += ["if __name__ == '__main__':", "    sys.exit(main(as_run(sys.argv[1:])))"]
    (folder / "bin").mkdir()
    for name, text in {"srun": '#!/bin/bash\nexec "$@"\n', "ifmdm": "\n".join(lines) + "\n"}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)


@pytest.fixture
def place(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who follows the page."""
    import transformers

    write_originals(tmp_path, shared / "data" / "clips")
    write_programs(tmp_path)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": (8,) * 7}
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(hidden_size=768, **sizes))
    model.save_pretrained(tmp_path / "facebook" / "wav2vec2-base")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run_process(words: list[str], **environment: str) -> None:
    done = subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-3000:]}"


def run_job(words: list[str]) -> None:
    """A command of `sbatch`: its script, once or for each job of a short array."""
    array = next((word for word in words if word.startswith("--array=")), None)
    script = next(word for word in words if word in SCRIPTS)
    arguments = words[words.index(script) + 1 :]
    for number in range(1, PARTS + 1) if array else [0]:
        part = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": str(PARTS)} if array else {}
        run_process(["bash", "-e", script, *arguments], **SLURM, **part)


def run_torchrun(words: list[str]) -> None:
    start = words.index("train")
    flags = [re.sub(r"^(--nproc-per-node)=\d+$", rf"\1={PARTS}", word) for word in words[1:start]]
    several = [f"trainer.devices={PARTS}", "++trainer.sync_batchnorm=false"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *flags]
    run_process([*command, *as_run(words[start:]), *several])


def write_other_method(folder: Path) -> None:
    """Somebody's videos of the test clips: the real ones."""
    data = folder / "data" / "hdtf-256"
    (folder / "outputs" / "other").mkdir(parents=True)
    for clip in read_manifest(data):
        if clip.split == "test":
            shutil.copy(data / clip.video, folder / "outputs" / "other" / f"{clip.id}.mp4")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_runs(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words in TYPED:
        if words[0] == "ifmdm":
            if words[1:3] == ["evaluate", "--videos"]:
                write_other_method(place)
            status = main(as_run(words[1:]))
            assert status == 0, f"{words}: {capfd.readouterr().err[-3000:]}"
        elif words[0] not in ELSEWHERE:
            {"sbatch": run_job, "torchrun": run_torchrun}[words[0]](words)
    for size in (256, 512):
        assert {clip.id for clip in read_manifest(place / f"data/hdtf-{size}")} == {
            f"{name}_000" for name in STAND_INS
        }
    board = (place / "leaderboard.html").read_text(encoding="utf-8")
    assert "ours" in board
    assert "other" in board
    for study, row in (
        ("hdtf-ablations", "no_statistics"),
        ("hdtf-renderer", "no_local_flow"),
        ("paper-ablations", "no_statistics"),
    ):
        table = json.loads((place / "results" / study / "ablations.json").read_text())
        rows = {one["row"]: one for one in table["rows"]}
        assert row in rows
        assert not any(one["failures"] for one in rows.values())
    steps = {
        name: json.loads((place / f"runs/hdtf/{name}/run.json").read_text())["steps"]
        for name in ("diffusion", "diffusion-8")
    }
    assert steps == {"diffusion": 4, "diffusion-8": 4}


def test_every_word_of_a_command_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any data: commands are there, and what is composed of their words is what is meant."""
    assert {words[0] for words in TYPED} == {"ifmdm", "torchrun", "sbatch", *ELSEWHERE}
    assert {words[0] for words in IFMDM} <= set(COMMANDS)
    trained = [words[words.index("train") + 1 :] for words in TYPED if "train" in words]
    assert len(trained) > 8
    for words in trained:
        assert (
            compose([word for word in words if not word.startswith("resume=")]).data.splits == "hdtf-test-v1"
        )
    for words in (words[1:] for words in IFMDM if words[0] == "encode"):
        assert compose([word for word in words if not word.startswith("shard=")]).stage == "diffusion"
    monkeypatch.setattr("experiments.ablation.command.given_stage", lambda stage, source: Path(source))
    for words in (words[1:] for words in IFMDM if words[0] == "ablate"):
        given, others = split_words(words)
        assert given.get("launcher", "local") in config_names("launcher")
        assert read_study(given, others).base.name in ("hdtf_base", "hdtf_paper")


def test_batches_of_the_table_are_those_of_the_experiments() -> None:
    rows = re.findall(
        r"^\| (`\w+`(?:, `\w+`)?) \| (\d+) \| `data.batch_size=(\d+)` \| `data.batch_size=(\d+)`",
        PAGE,
        re.MULTILINE,
    )
    told = {
        name.strip("`"): tuple(map(int, numbers)) for names, *numbers in rows for name in names.split(", ")
    }
    assert len(told) == 6
    for name, (batch, alone, eight) in told.items():
        more = ["audio.source=x"] if name in ("statistics_paper", "diffusion_paper") else []
        assert compose([f"experiment={name}", *more]).data.batch_size == batch == alone == 8 * eight
