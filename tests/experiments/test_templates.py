"""The page of a model's motion: every direction by itself, all of them on the page."""

import re
from pathlib import Path

import pytest
import torch

from datamodules.errors import UserError
from experiments.cli import run_command
from experiments.report.templates import DEVIATIONS, coordinate_motions, template_motions
from lightning_modules.generation.talking_head import TalkingHead


def test_each_row_moves_one_direction_alone() -> None:
    model = TalkingHead.from_pretrained()
    usual = model.basis.mean[None]  # far from the bounds
    source = model.prepare_source(torch.zeros(3, 128, 128))._replace(motion=usual)
    rest = model.basis.encode(source.motion)[0]
    rows = list(coordinate_motions(model, source))
    assert len(rows) == model.basis.motion_dim
    assert {label.split()[0] for label, _ in rows} == {"head", "mouth", "eyes", "rest"}
    still = DEVIATIONS.index(0.0)
    moving = 0
    for k, (_, motion) in enumerate(rows):
        assert motion.shape == (len(DEVIATIONS), model.basis.motion_dim)
        torch.testing.assert_close(motion[still], source.motion[0], atol=1e-5, rtol=1e-4)
        if motion.abs().max() < 1:  # nothing was clamped
            moving += 1
            change = model.basis.encode(motion) - rest
            expected = torch.zeros_like(change)
            expected[:, k] = torch.tensor(DEVIATIONS)
            torch.testing.assert_close(change, expected, atol=2e-3, rtol=1e-3)
    assert moving > 5
    for k, (label, motion) in enumerate(template_motions(model, source)):
        assert float(re.search(r"std (\d\.\d+)", label)[1]) > 0
        others = torch.arange(model.basis.motion_dim) != k
        assert (motion[:, others] == source.motion[:, others].clamp(-1, 1)).all()
        assert (motion[1:, k] >= motion[:-1, k]).all()


def test_the_page_shows_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.report.templates.DEVIATIONS", (-3.0, 3.0))
    page = tmp_path / "page.html"
    assert run_command(["report", "--templates", "synthetic-256", "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 2
    assert "Coordinates of the motion basis" in text


@pytest.mark.parametrize("words", [[], ["folder", "--templates", "synthetic-256"]])
def test_a_report_is_of_folders_or_of_one_model(words: list[str]) -> None:
    with pytest.raises(UserError, match="name folders, or one model by --templates"):
        run_command(["report", *words])
