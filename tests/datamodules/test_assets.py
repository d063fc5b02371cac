"""Named model files: where they are looked for, what is verified, what the errors say."""

import argparse
import dataclasses
import hashlib
import re

import pytest

from datamodules import assets
from datamodules.errors import UserError
from experiments.assets import add_arguments, run

CONTENT = b"a model"
ADDRESS = "http://127.0.0.1:9/toy.bin"  # nobody answers there
TOY = assets.Asset("toy.bin", ADDRESS, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "MIT", "for tests")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder and one small asset more."""
    monkeypatch.setitem(assets.ASSETS, "toy.bin", TOY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("IFMDM_ASSETS", raising=False)
    return tmp_path / "cache" / "ifmdm"


def command(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


def put(folder, content=CONTENT):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.bin").write_bytes(content)


def test_published_files_are_what_the_entries_say(shared, monkeypatch):
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    present = [name for name in assets.ASSETS if (shared / "models" / name).exists()]
    assert {"face_landmarker.task", "mobilefacenet.onnx"} <= set(present)
    for name in present:
        assert assets.find(name) == shared / "models" / name


def test_entries_are_complete_and_hashes_begin_as_the_names_of_torch_hub_say():
    named = 0
    for name, asset in assets.ASSETS.items():
        assert name == asset.name
        assert asset.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", asset.sha256)
        assert asset.size > 0
        assert asset.licence
        assert asset.note
        if match := re.search(r"-([0-9a-f]{8})\.pth$", name):
            named += 1
            assert asset.sha256.startswith(match[1])
    assert named == 2


def test_missing_file_is_told_with_size_licence_and_command(cache):
    with pytest.raises(
        assets.MissingAssetError, match=r"toy.bin.*0.0 MB, MIT.*`ifmdm assets fetch toy.bin`.*IFMDM_ASSETS"
    ):
        assets.find("toy.bin")
    assert not cache.exists()


def test_named_folder_comes_before_the_cache(cache, tmp_path, monkeypatch):
    put(cache)
    monkeypatch.setenv("IFMDM_ASSETS", str(tmp_path))
    assert assets.find("toy.bin").parent == cache
    put(tmp_path)
    assert assets.find("toy.bin").parent == tmp_path


@pytest.mark.parametrize("content", [b"another", b"too long for it", b""])
def test_changed_file_is_refused(cache, content):
    put(cache, content)
    for get in (assets.find, assets.fetch):
        with pytest.raises(UserError, match=r"is not the published toy\.bin"):
            get("toy.bin")


def test_fetch_downloads_once_and_verifies(cache, served, monkeypatch):
    folder, address, asked = served
    put(folder)
    address += "/toy.bin"
    monkeypatch.setitem(assets.ASSETS, "toy.bin", dataclasses.replace(TOY, url=address))
    assert command("fetch", "toy.bin") == 0
    assert assets.fetch("toy.bin") == cache / "toy.bin"
    assert asked == ["/toy.bin"]
    (cache / "toy.bin").unlink()
    monkeypatch.setitem(assets.ASSETS, "toy.bin", dataclasses.replace(TOY, url=address, sha256="0" * 64))
    with pytest.raises(UserError, match="download failed"):
        assets.fetch("toy.bin")
    assert not (cache / "toy.bin").exists()


def test_failed_download_says_where_to_put_the_file(cache):
    with pytest.raises(UserError, match=r"^[^\n]*download failed [^\n]*http://127.0.0.1:9/toy.bin[^\n]*$"):
        assets.fetch("toy.bin")


def test_commands_list_and_verify(cache, capsys, monkeypatch):
    assert command("list") == 0
    assert "missing" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"1 of 1 files missing or damaged: toy\.bin; `ifmdm assets fetch`"):
        command("verify", "toy.bin")
    put(cache)
    assert command("verify", "toy.bin") == 0
    assert f"ok, {cache / 'toy.bin'}" in capsys.readouterr().out
    put(cache, b"another")
    with pytest.raises(UserError, match="missing or damaged"):
        command("verify")
    assert "DAMAGED" in capsys.readouterr().out
    for words in (["fetch", "other.bin"], ["verify", "toy"]):
        with pytest.raises(UserError, match=r"no such asset; the names are .*toy\.bin"):
            command(*words)
    for folder in (str(cache / "nowhere"), "~nobody-of-this-name/models"):
        monkeypatch.setenv("IFMDM_ASSETS", folder)
        with pytest.raises(UserError, match=f"IFMDM_ASSETS={folder}: is no folder"):
            command("list")
