"""Named model files: where they are looked for, what is verified, what the errors say."""

import dataclasses
import hashlib
import re

import pytest

from datamodules import assets
from datamodules.errors import UserError
from experiments.assets import add_arguments, run

CONTENT = b"a model"
TOY = assets.Asset(
    name="toy.bin",
    url="https://example.invalid/toy.bin",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    licence="MIT",
    note="for tests",
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder and one small asset."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(assets, "ASSETS", {"toy.bin": TOY})
    monkeypatch.setattr(assets, "cache_folder", lambda: folder)
    monkeypatch.delenv("IFMDM_ASSETS", raising=False)
    return folder


def command(*words):
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_published_files_are_what_the_entries_say(shared, monkeypatch):
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    present = [name for name in assets.ASSETS if (shared / "models" / name).exists()]
    assert {"face_landmarker.task", "mobilefacenet.onnx"} <= set(present)
    for name in present:
        assert assets.find(name) == shared / "models" / name


def test_entries_are_complete():
    for name, asset in assets.ASSETS.items():
        assert name == asset.name
        assert asset.url.startswith("https://")
        assert asset.sha256 is None or re.fullmatch("[0-9a-f]{64}", asset.sha256)
        assert asset.size is None or asset.size > 0
        assert asset.licence
        assert asset.note


def test_hashes_begin_as_the_file_names_say():
    """Torch hub's convention: the name ends in the first 8 digits of the sha256."""
    named = {name: match[1] for name in assets.ASSETS if (match := re.search(r"-([0-9a-f]{8})\.pth$", name))}
    assert len(named) == 3
    for name, digits in named.items():
        assert assets.ASSETS[name].sha256.startswith(digits)


def test_missing_file_is_told_with_size_licence_and_command(cache):
    with pytest.raises(
        assets.MissingAssetError, match=r"toy.bin.*0.0 MB, MIT.*`ifmdm assets fetch toy.bin`.*IFMDM_ASSETS"
    ):
        assets.find("toy.bin")
    assert not cache.exists()


def test_named_folder_comes_before_the_cache(cache, tmp_path, monkeypatch):
    cache.mkdir()
    (cache / "toy.bin").write_bytes(CONTENT)
    assert assets.find("toy.bin").parent == cache
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.setenv("IFMDM_ASSETS", str(named))
    assert assets.find("toy.bin").parent == cache
    (named / "toy.bin").write_bytes(CONTENT)
    assert assets.find("toy.bin").parent == named


@pytest.mark.parametrize("content", [b"another", b"too long for it", b""])
def test_changed_file_is_refused(cache, content):
    cache.mkdir()
    (cache / "toy.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"is not the published toy\.bin"):
        assets.find("toy.bin")
    with pytest.raises(UserError, match=r"is not the published toy\.bin"):
        assets.fetch("toy.bin")


def test_wrong_folder_and_wrong_name_are_told(cache, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"the names are toy\.bin"):
        assets.find("toy")
    monkeypatch.setenv("IFMDM_ASSETS", str(tmp_path / "none"))
    with pytest.raises(UserError, match="is no folder"):
        assets.find("toy.bin")


def test_fetch_downloads_once_and_verifies(cache, tmp_path, monkeypatch):
    import pooch

    calls = []

    def download(url, known_hash, fname, path):
        calls.append(url)
        assert known_hash == f"sha256:{TOY.sha256}"
        path.mkdir()
        (path / fname).write_bytes(CONTENT)

    monkeypatch.setattr(pooch, "retrieve", download)
    assert command("fetch", "toy.bin") == 0
    assert assets.fetch("toy.bin") == cache / "toy.bin"
    assert calls == [TOY.url]


def test_failed_download_says_where_to_put_the_file(cache, monkeypatch):
    import requests

    def refuse(*args, **kwargs):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "get", refuse)
    monkeypatch.setattr(requests.Session, "get", refuse)
    with pytest.raises(
        UserError, match=r"download failed .*no network.*https://example.invalid/toy.bin"
    ) as caught:
        assets.fetch("toy.bin")
    assert "\n" not in str(caught.value)


def test_commands_list_and_verify(cache, capsys, monkeypatch):
    assert command("list") == 0
    assert "missing" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"1 of 1 files missing or damaged: toy\.bin; `ifmdm assets fetch`"):
        command("verify", "toy.bin")
    cache.mkdir()
    (cache / "toy.bin").write_bytes(CONTENT)
    assert command("verify") == 0
    assert f"ok, {cache / 'toy.bin'}" in capsys.readouterr().out
    (cache / "toy.bin").write_bytes(b"another")
    with pytest.raises(UserError, match="missing or damaged"):
        command("verify")
    assert "DAMAGED" in capsys.readouterr().out
    with pytest.raises(UserError, match="no such asset"):
        command("fetch", "other.bin")
    monkeypatch.setenv("IFMDM_ASSETS", str(cache / "nowhere"))
    with pytest.raises(UserError, match=r"IFMDM_ASSETS=.*nowhere: is no folder"):
        command("list")
    monkeypatch.setenv("IFMDM_ASSETS", "~nobody-of-this-name/models")
    with pytest.raises(UserError, match=r"IFMDM_ASSETS=~nobody-of-this-name.*is no folder"):
        command("list")


def test_file_of_unknown_hash_is_used_and_told_as_not_verified(cache, monkeypatch, capsys):
    import pooch

    unknown = dataclasses.replace(TOY, sha256=None, size=None)
    monkeypatch.setattr(assets, "ASSETS", {"toy.bin": unknown})
    with pytest.raises(assets.MissingAssetError, match="size unknown, MIT"):
        assets.find("toy.bin")

    def download(url, known_hash, fname, path):
        assert known_hash is None
        path.mkdir()
        (path / fname).write_bytes(b"whatever came")

    monkeypatch.setattr(pooch, "retrieve", download)
    assert command("fetch", "toy.bin") == 0
    assert assets.find("toy.bin") == cache / "toy.bin"
    assert command("verify", "toy.bin") == command("list") == 0
    assert "not verified: its sha256 is not known" in capsys.readouterr().out
    monkeypatch.setattr(assets, "ASSETS", {"toy.bin": dataclasses.replace(unknown, size=3)})
    with pytest.raises(UserError, match=r"is not the published toy\.bin"):
        assets.find("toy.bin")


def test_entries_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TOY.size = 1
