"""SyncNet: the public checkpoint's names and shapes, narrow copies, what goes into both branches."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datamodules import assets
from datamodules.errors import UserError
from datamodules.media.audio import load_audio
from datamodules.media.video import VideoReader
from metrics.judges.mfcc import mfcc
from metrics.judges.syncnet import SyncNet, clip_cepstra, load_expert, window_cepstra
from metrics.sync import lip_sync

PUBLIC_NAME = "syncnet_v2.model"
LAYERS = (0, 4, 8, 11, 14, 18)
AUDIO = (
    (64, 1, 3, 3),
    (192, 64, 3, 3),
    (384, 192, 3, 3),
    (256, 384, 3, 3),
    (256, 256, 3, 3),
    (512, 256, 5, 4),
)
MIDDLE = (256, 256, 1, 3, 3)
LIPS = ((96, 3, 5, 7, 7), (256, 96, 1, 5, 5), MIDDLE, MIDDLE, MIDDLE, (512, 256, 1, 6, 6))
LINEAR = {0: (512, 512), 3: (1024, 512)}
PUBLIC_KERNELS: dict[str, dict[int, tuple[int, ...]]] = {
    "netcnnaud": dict(zip(LAYERS, AUDIO, strict=True)),
    "netcnnlip": dict(zip(LAYERS, LIPS, strict=True)),
    "netfcaud": LINEAR,
    "netfclip": LINEAR,
}
"""Weights of the public checkpoint by branch and number of the layer; a batch norm follows all but the last linear ones."""
NORM = ("weight", "bias", "running_mean", "running_var")


def public_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the public checkpoint, without the counters that newer versions of torch add."""
    shapes: dict[str, tuple[int, ...]] = {}
    for branch, kernels in PUBLIC_KERNELS.items():
        for number, shape in kernels.items():
            shapes |= {f"{branch}.{number}.weight": shape, f"{branch}.{number}.bias": shape[:1]}
            if number != 3:
                shapes |= {f"{branch}.{number + 1}.{name}": shape[:1] for name in NORM}
    return shapes


def public_like_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.1 * torch.rand(shape, generator=generator) + (0.5 if name.endswith("var") else 0)
        for name, shape in public_shapes().items()
    }


def tiny(size: int = 64) -> SyncNet:
    torch.manual_seed(0)
    network = SyncNet(width=0.125, size=size)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d | torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def test_names_and_shapes_are_the_public_ones():
    state = {k: v for k, v in SyncNet().state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {name: tuple(value.shape) for name, value in state.items()} == public_shapes()
    assert sum(value.numel() for value in state.values()) == 13_640_256


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_like_the_public_one_loads_strictly(zipped, tmp_path):
    state = public_like_state()
    torch.save(state, tmp_path / PUBLIC_NAME, _use_new_zipfile_serialization=zipped)
    network = SyncNet.load(tmp_path / PUBLIC_NAME)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    missing = {k: v for k, v in state.items() if k != "netfclip.3.bias"}
    for wrong in (missing, state | {"netfclip.4.bias": torch.zeros(1)}, {"a": 1}, [1]):
        torch.save(wrong, tmp_path / "wrong.model")
        with pytest.raises(UserError, match=r"wrong.model: holds no SyncNet weights"):
            SyncNet.load(tmp_path / "wrong.model")
    torch.save(
        state | {"netfclip.3.bias": torch.full_like(state["netfclip.3.bias"], torch.nan)},
        tmp_path / "wrong.model",
    )
    with pytest.raises(UserError, match=r"wrong.model: netfclip\.3\.bias holds values that are NaN"):
        SyncNet.load(tmp_path / "wrong.model")
    (tmp_path / "damaged.model").write_bytes(b"no weights")
    for name in ("damaged.model", "absent.model"):
        with pytest.raises(UserError, match=f"{name}: can't be read"):
            SyncNet.load(tmp_path / name)


@pytest.mark.parametrize(("width", "size"), [(1, 224), *((0.25, size) for size in (51, 64, 96, 112, 128))])
def test_features_of_any_width_and_size(width, size):
    network, features = SyncNet(width, size).eval(), 1024 * width
    with torch.no_grad():
        assert network.lip_features(torch.zeros(2, 3, 5, size, size)).shape == (2, features)
        assert network.audio_features(torch.zeros(2, 1, 13, 20)).shape == (2, features)
    assert sum(parameter.numel() for parameter in network.parameters()) < 14e6 * width


@pytest.mark.parametrize(("width", "size"), [(0, 112), (-1, 112), (0.25, 50)])
def test_impossible_networks_are_refused(width, size):
    with pytest.raises(UserError, match="SyncNet needs"):
        SyncNet(width, size)


@torch.no_grad()
def test_a_track_is_its_windows():
    network = tiny()
    frames = 255 * torch.rand(3, 9, 64, 64, generator=torch.Generator().manual_seed(1))
    windows = torch.stack([frames[:, start : start + 5] for start in range(5)])
    torch.testing.assert_close(network.lip_track(frames), network.lip_features(windows), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_every_frame_colour_and_cepstrum_matters():
    network = tiny()
    generator = torch.Generator().manual_seed(1)
    frames, cepstra = 255 * torch.rand(1, 3, 5, 64, 64, generator=generator), 10 * torch.randn(1, 1, 13, 20)
    lip = network.lip_features(frames)
    for changed in (frames.flip(1), frames.flip(2), frames.flip(4)):
        assert not torch.allclose(network.lip_features(changed), lip, atol=1e-4)
    for column in range(20):
        other = cepstra.clone()
        other[..., column] += 30
        assert not torch.allclose(network.audio_features(other), network.audio_features(cepstra), atol=1e-4)


def test_frames_are_read_blue_first():
    frames = torch.zeros(2, 5, 3, 96, 96)
    frames[:, 3, 0] = 255.0  # frame 3 is red
    read = tiny(96).view(frames)
    assert read.shape == (2, 3, 5, 96, 96)
    assert read[:, 2, 3].unique().tolist() == [255]
    assert read.sum() == 255 * 2 * 96**2


def test_only_the_region_is_looked_at_at_the_size_of_the_network():
    """A ramp tells where each pixel comes from: the corners of the region become the corners of the view."""
    across, down = torch.meshgrid(torch.arange(100.0), torch.arange(200.0), indexing="xy")  # (200, 100)
    frames = torch.stack([across, down, torch.zeros_like(down)]).expand(5, 3, 200, 100)
    network = SyncNet(0.125, 60, [0.2, 0.4, 0.8, 1.0])
    read = network.view(frames)
    assert read.shape == (3, 5, 60, 60)
    torch.testing.assert_close(read[2, 0, 0], torch.arange(20.0, 80.0))  # 60 columns, as they are
    assert 80 <= read[1].min() <= 82  # 120 rows at half the size
    assert 197 <= read[1].max() <= 199
    assert network.view(frames, (0.0, 0.0, 0.5, 0.5))[1].max() < 100
    for wrong in ([0.8, 0.4, 0.2, 1.0], [0.2, 0.4, 0.8, 1.1], [0.2, 0.8]):
        with pytest.raises(UserError, match="region"):
            SyncNet(0.125, 60, wrong)


def test_windows_of_a_clip_are_four_columns_apart():
    sound = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 640 * 12)).float()
    cepstra, windows = mfcc(sound[None])[0], clip_cepstra(sound)
    assert windows.shape == (7, 1, 13, 20)  # 12 frames, the last five begin none
    for i, window in enumerate(windows):
        torch.testing.assert_close(window[0], cepstra[:, 4 * i : 4 * i + 20], atol=0, rtol=0)
    with pytest.raises(ValueError, match="fewer"):
        clip_cepstra(sound[:3200])


def test_a_window_cut_out_sounds_as_in_its_clip(shared):
    """All columns within the window are equal; the two that reach beyond it stay close, as its own frames do."""
    sound = torch.from_numpy(load_audio(shared / "data/speech/jfk_16k_mono.wav"))
    whole = clip_cepstra(sound)
    starts = [20, 35, 50, 77]
    cut = window_cepstra(torch.stack([sound[640 * i : 640 * i + 3200] for i in starts]))
    assert cut.shape == (4, 1, 13, 20)
    torch.testing.assert_close(cut[..., 1:18], whole[starts][..., 1:18])
    beyond = (cut - whole[starts])[..., 18:].abs().mean()
    assert beyond < 0.5 * (whole[starts] - whole[[i + 9 for i in starts]])[..., 18:].abs().mean()


def test_an_expert_comes_back_from_its_folder(tmp_path):
    network = tiny(96)
    with pytest.raises(UserError, match="missing"):
        load_expert(tmp_path)

    def describe(**change: object) -> None:
        settings = {"name": "syncnet", "width": 0.125, "size": 96, "region": [0, 0.5, 1, 1]}
        (tmp_path / "config.json").write_text(json.dumps({"format": 2, "network": settings | change}))

    describe()
    with pytest.raises(UserError, match="missing"):
        load_expert(tmp_path)
    halved = {k: v.half() if v.ndim > 1 else v for k, v in network.state_dict().items()}
    save_file(halved, tmp_path / "model.safetensors")
    again = load_expert(tmp_path)
    assert (again.size, again.region) == (96, (0, 0.5, 1, 1))
    assert not again.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    assert again.sha256 == load_expert(tmp_path).sha256 != network.sha256
    for change in ({"region": [0, 0.4, 1, 1]}, {"size": 97}):  # which the same weights fit
        describe(**change)
        assert load_expert(tmp_path).sha256 != again.sha256
    describe(width=0.25)
    with pytest.raises(UserError, match=r"model.safetensors: weights don't fit the network"):
        load_expert(tmp_path)


def test_the_published_example_gives_the_published_result(shared):
    """Runs where the public checkpoint is; the published script reads its frames through JPEG, hence the tolerance."""
    try:
        path = assets.find(PUBLIC_NAME)
    except assets.MissingAssetError as missing:
        pytest.skip(str(missing))
    clip = shared / "data/clips/syncnet_example.avi"
    reader = VideoReader(clip)
    frames = torch.from_numpy(reader.get(range(len(reader)))).permute(0, 3, 1, 2)
    (result,) = lip_sync(SyncNet.load(path), frames, [torch.from_numpy(load_audio(clip))])
    assert result.published_offset == 3
    assert result.offset == -3  # the sound comes early
    assert result.distance == pytest.approx(5.353, abs=0.1)
    assert result.confidence == pytest.approx(10.021, abs=0.15)
