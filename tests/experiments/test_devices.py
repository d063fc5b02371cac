"""``IFMDM_DEVICE``: every command that uses a trained model asks for it, and a job of a study has a GPU of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.media.audio import write_wav
from experiments.ablation import jobs


@pytest.mark.parametrize(
    "words",
    [
        "generate --image P --audio S --output O",
        "reenact --image P --video S --output O",
        "evaluate model=synthetic-256 data.root=D split=test output=R",
        "evaluate autoencoder=synthetic-256 data.root=D split=test output=R",
        "evaluate --videos D/clips --reference D --method m --model synthetic-256 --output R",
        "sweep data.root=D split=test output=R",
        "report --templates synthetic-256 --output H",
    ],
)
def test_a_gpu_that_is_not_there_is_refused_by_every_command(
    words, fake_clips, tmp_path, monkeypatch, refused
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("IFMDM_DEVICE", "cuda")
    monkeypatch.chdir(tmp_path)
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save("P.png")
    write_wav(Path("S.wav"), np.full(6400, 0.1, np.float32))
    names = {"P": "P.png", "S": "S.wav", "O": "o.mp4", "R": "r", "H": "h.html"}
    given = [names.get(word, word).replace("=R", "=r") for word in words.split()]
    given = [word.replace("=D", f"={fake_clips}") for word in given]
    given = [f"{fake_clips}{word[1:]}" if word in ("D", "D/clips") else word for word in given]
    assert "IFMDM_DEVICE is 'cuda', but torch finds 0 GPUs here" in refused(given)
    assert not any(Path(name).exists() for name in ("o.mp4", "r", "h.html"))


@pytest.mark.parametrize(
    ("visible", "seen"), [("", ["0", "1", "0"]), ("4,6", ["4", "6", "4"]), ("3", ["3"] * 3)]
)
def test_jobs_side_by_side_have_a_gpu_each_and_use_it(visible, seen, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("IFMDM_DEVICE", "cuda:1")
    monkeypatch.setattr(jobs, "device_count", lambda: 2)
    found = [jobs._environment(slot, 3) for slot in range(3)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in found] == seen
    if len(set(seen)) > 1:  # the only one that each sees
        assert {one["IFMDM_DEVICE"] for one in found} == {"cuda"}
