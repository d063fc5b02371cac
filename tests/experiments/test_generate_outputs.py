"""``ifmdm generate`` and ``reenact``: what they write replaces none of their inputs, whatever it is called."""

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("command", "driver", "taken"),
    [("generate", "audio", "audio"), ("reenact", "video", "video"), ("reenact", "video", "image")],
)
def test_an_input_is_never_replaced_by_the_output(
    command: str, driver: str, taken: str, tmp_path: Path, refused
) -> None:
    given = {name: tmp_path / f"{name}.mp4" for name in ("image", driver)}
    for path in given.values():
        path.write_bytes(b"an input")
    (tmp_path / "link.mp4").symlink_to(given[taken])
    for output in (given[taken], tmp_path / "link.mp4"):
        flags = [f"--{name}={path}" for name, path in given.items()]
        assert "is an input" in refused([command, *flags, f"--output={output}"])
    assert all(path.read_bytes() == b"an input" for path in given.values())


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, refused) -> None:
    flags = ["--image=a.png", "--audio=a.wav", f"--output={tmp_path / ('x' * 252)}.mp4"]
    assert "the name is too long" in refused(["generate", *flags])
