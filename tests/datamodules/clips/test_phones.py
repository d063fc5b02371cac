import numpy as np
import pytest

from datamodules.clips.annotations import write_annotations
from datamodules.clips.phones import Phone, phone_file, read_phones

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.9
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.9
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.3
            text = ""
        intervals [2]:
            xmin = 0.3
            xmax = 0.9
            text = "say ""7"" [3]"
    item [2]:
        class = "TextTier"
        name = "notes"
        xmin = 0
        xmax = 0.9
        points: size = 1
        points [1]:
            number = 0.5
            mark = "x"
    item [3]:
        class = "IntervalTier"
        name = "ann - phones"
        xmin = 0
        xmax = 0.9
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 3e-1
            text = "pʰ"
        intervals [2]:
            xmin = 0.3
            xmax = 0.9
            text = "AA1"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

""" + '0 0.9 <exists> 1 "IntervalTier" "phones" 0 0.9 2 0 0.3 "pʰ" 0.3 0.9 "AA1"'.replace(" ", "\n")
PHONES = [Phone("pʰ", 0.0, 0.3), Phone("AA1", 0.3, 0.9)]


@pytest.mark.parametrize("text", [LONG, SHORT])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_both_forms_of_a_textgrid_in_every_encoding(text, encoding, tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(text, encoding=encoding)
    assert read_phones(path) == PHONES
    assert phone_file(tmp_path / "a.mp4") == path
    assert phone_file(tmp_path / "b.mp4") is None


@pytest.mark.parametrize(
    "text",
    [
        "start,end,phone\n0.3,0.9,AA1\n0,0.3,pʰ\n",
        "Begin,End,Label,Type,Speaker\n0,0.9,word,words,ann\n0,0.3,pʰ,phones,ann\n0.3,0.9,AA1,phones,ann\n",
    ],
)
def test_tables(text, tmp_path):
    path = tmp_path / "a.b.phones.csv"
    path.write_text(text)
    assert read_phones(path) == PHONES
    assert phone_file(tmp_path / "a.b.mp4") == path


def test_a_synthetic_clip_knows_its_phones(tmp_path):
    path = tmp_path / "a.safetensors"
    numbers = np.array([0, 0, 2, 2, 2, 1, 0], np.int16)
    write_annotations(path, {"phoneme": numbers}, {"phoneme_table": ["", "a", "m"]})
    expected = [("", 0.0, 0.08), ("m", 0.08, 0.2), ("a", 0.2, 0.24), ("", 0.24, 0.28)]
    assert read_phones(path) == [Phone(*one) for one in expected]
    write_annotations(path, {"blink": np.zeros(7, np.float32)}, {})
    assert read_phones(path) == []
