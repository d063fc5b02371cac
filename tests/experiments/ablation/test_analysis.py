"""What an ablation study says, and its tables, out of results whose answer is known."""

import csv
import dataclasses
import io

import numpy as np
import pytest

from experiments.ablation.analysis import MemberResult, RowResult, compare, study_table
from experiments.ablation.tables import csv_text, markdown, sections

CLIPS = [(f"clip{place}", f"person{place // 2}") for place in range(12)]


def _results(values, fid=10.0, fps=50.0):
    metric = {"low": None, "high": None, "n": len(values)}
    return {
        "protocol": {"name": "talking-head-v2", "hash": "0" * 16, "measures": {"lip_corr_zero": "1" * 16}},
        "metrics": {
            "lip_corr_zero": {"value": float(np.mean(values)), **metric},
            "fid": {"value": fid, **metric},
            "fps": {"value": fps, **metric},
            "lip_corr_zero_real": {"value": 1.0, **metric},
            "fid_still": {"value": 40.0, **metric},
        },
        "clips": [
            {"clip": clip, "identity": person, "lip_corr_zero": float(value)}
            for (clip, person), value in zip(CLIPS, values, strict=True)
        ],
    }


@pytest.fixture
def rows():
    """The full model, a control that differs by chance alone, a row that is 0.2 worse, one of which a seed failed."""
    generator = np.random.default_rng(0)
    people = np.repeat(generator.normal(0.7, 0.2, 6), 2)

    def row(name, change, seeds, failed=0):
        members = [
            MemberResult(seed, None, "train ended with status 2: loss is NaN")
            if place < failed
            else MemberResult(
                seed,
                _results(people + change + generator.normal(0, 0.02, 12), fid=10 - 30 * change + place),
                cost={"parameters": 1.4e6, "minutes": 20.0 + place, "commits": {"diffusion": "abcdef0123"}},
            )
            for place, seed in enumerate(seeds)
        ]
        return RowResult(
            name, "diffusion", "" if name in ("full", "A/A") else "a claim | of it", tuple(members)
        )

    return [
        row("full", 0, (0, 1, 2)),
        row("A/A", 0, (10, 11, 12)),
        row("no_hint", -0.2, (0, 1, 2)),
        row("no_std", 0, (0, 1, 2), failed=1),
        row("broken", 0, (0, 1, 2), failed=3),
    ]


def test_a_row_that_is_worse_differs_and_the_control_does_not(rows):
    full, control, worse = rows[:3]
    found = compare(worse, full, "lip_corr_zero")
    assert found.differs()
    assert found.difference.value == pytest.approx(-0.2, abs=0.02)
    # People differ by ten times more than the seeds do: paired, that goes out.
    assert found.difference.high - found.difference.low < 0.4 * (found.value.high - found.value.low)
    chance = compare(control, full, "lip_corr_zero")
    assert not chance.differs()
    # Nothing is told from chance that chance does as well, or by few people.
    assert not found.differs(
        dataclasses.replace(chance, difference=dataclasses.replace(chance.difference, value=0.3))
    )
    assert not dataclasses.replace(found, people=5).differs()
    assert compare(full, full, "lip_corr_zero").difference.value is None


def test_distances_are_compared_over_seeds(rows):
    found = compare(rows[2], rows[0], "fid")
    assert found.by_seeds
    assert found.value.value == pytest.approx(17)
    assert found.difference.value == pytest.approx(6)
    assert found.value.n == 3


def test_failures_are_rows_that_say_so(rows):
    table = study_table(rows, "generation")
    told = {row["row"]: row for row in table["rows"]}
    assert told["no_std"]["seeds"] == [1, 2]
    assert told["broken"]["seeds"] == []
    assert told["broken"]["failures"][0] == "seed 0: train ended with status 2: loss is NaN"
    assert told["full"]["code"] == ["abcdef0"]
    assert told["full"]["cost"] == {"parameters": 1.4e6, "minutes": 21.0, "ms_per_frame": 20.0}
    text = markdown(table, "how it was made")
    assert "- no_std, seed 0: train" in text
    assert "a claim \\| of it" in text
    heads = [line.split(" | ") for line in text.splitlines() if line.startswith("| measure")]
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| Lip correlation")]
    values, differences = (dict(zip(*each, strict=True)) for each in zip(heads, lines, strict=True))
    assert values["broken"].startswith("failed")
    assert "*" in differences["no_hint"]
    assert not any("*" in cell for cell in values.values())
    assert list(values)[-2:] == ["real video", "still source frame |"]


def test_another_version_of_a_measure_or_a_single_seed_tells_nothing(rows):
    full, _, worse = rows[:3]
    alone = dataclasses.replace(worse, members=worse.members[:1])
    assert compare(alone, full, "lip_corr_zero").difference.low is not None
    assert not compare(alone, full, "lip_corr_zero").differs()
    worse.members[0].results["protocol"]["measures"]["lip_corr_zero"] = "2" * 16
    found = compare(worse, full, "lip_corr_zero")
    assert found.difference.value is None
    assert found.value.value is not None


def test_the_csv_file_has_every_cell(rows):
    lines = list(csv.DictReader(io.StringIO(csv_text(study_table(rows, "generation")))))
    assert {(line["row"], line["measure"]) for line in lines} == {
        (row, name)
        for row in ("full", "A/A", "no_hint", "no_std")
        for name in ("lip_corr_zero", "fid", "fps")
    }
    fid = next(line for line in lines if line["row"] == "no_hint" and line["measure"] == "fid")
    assert float(fid["difference_value"]) == pytest.approx(6)
    assert fid["over"] == "seeds"


def test_a_pair_is_of_the_same_place_in_the_list_of_seeds(rows):
    """A row whose first seed failed is held against the other seeds of the full model."""
    found = compare(rows[3], rows[0], "fid")
    assert found.difference.value == pytest.approx(0)


def test_the_page_shows_tables_and_failures(rows):
    table = study_table(rows, "generation")
    page = sections(table, "how", rows)
    assert len(page) == 1
    assert len(page[0].tables) == 3
    assert len(page[0].notes) == 4


def test_reconstructions_are_told_by_how_far_heads_turn(rows):
    """A mean over the seeds that have a bin, beside the source frame's own; no table where no turn is known."""
    for row in rows[:2]:
        for place, member in enumerate(row.members):
            member.results["by_yaw"] = {"0-3": {"frames": 5, "psnr": 24.0 + place, "psnr_copy": 20.0}}
    table = study_table(rows[:2], "reconstruction")
    assert table["rows"][0]["by_yaw"]["0-3"]["psnr"] == 25
    assert "| 0-3 | PSNR ↑ (dB) | 25.0 | 25.0 | 20.0 |" in markdown(table, "how")
