"""What trainings cost, by counting, and what the docs say of it."""

from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_operations_are_counted(load):
    cost = load("training_cost")
    layer = torch.nn.Conv2d(3, 8, 5, padding=2, bias=False, device="meta")
    assert cost.counted(layer, (2, 3, 16, 16)) == pytest.approx(2 * 2 * 3 * 8 * 25 * 256 / 1e9)
    assert cost.parameters(layer) == pytest.approx(600 / 1e6)
    assert cost.Cost(1.0, per_item=36.0, batch=10, steps=1000).hours(teraflops=0.1) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["hdtf.md", "results.md"])
def test_the_docs_show_the_table(load, page):
    table = load("training_cost").table(convolutions=20, matrices=5)
    assert table in (DOCS / page).read_text(encoding="utf-8")
