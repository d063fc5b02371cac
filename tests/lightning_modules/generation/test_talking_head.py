"""TalkingHead: published folders, options, length and memory of generation."""

import copy
import io
import json
import math
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.errors import UserError
from lightning_modules.generation.options import GenerationOptions
from lightning_modules.generation.reenactment import Reenactor
from lightning_modules.generation.statistics_conditioning import read_statistics
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.model_folder import resolve_model
from lightning_modules.networks.base_renderer import DecoderOutput
from lightning_modules.networks.registry import build_network, network_spec


@pytest.fixture(scope="module")
def source(model):
    return model.prepare_source(torch.rand(3, 40, 40) * 2 - 1)


def speech(frames: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(640 * frames)).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 640, 641, 640 * 64, 640 * 65, 640 * 150 - 3])
def test_any_length_of_speech_gives_its_number_of_frames(model, source, samples):
    motion = model.generate_motion(source, speech(151)[:samples])
    assert motion.shape == (-(-samples // 640), 20)
    assert motion.abs().max() <= 1


def test_frames_are_pictures_of_the_model_size(model):
    frames = list(model.animate(torch.rand(3, 50, 50) * 2 - 1, speech(10)))
    assert len(frames) == 10
    assert frames[0].shape == (32, 32, 3)
    assert frames[0].dtype == np.uint8


def test_frames_are_as_large_as_they_are_asked_for_and_usually_256_pixels():
    model = TalkingHead.from_pretrained("synthetic-256")
    for size, side in ((None, 256), (128, 128)):
        frames = list(model.animate(torch.rand(3, 50, 50) * 2 - 1, speech(2), size=size))
        assert [frame.shape for frame in frames] == [(side, side, 3)] * 2
    with pytest.raises(UserError, match="this model renders frames of 128, 256, 384, 512, 640, "):
        model.animate(torch.zeros(3, 50, 50), speech(1), size=100)


@pytest.fixture(scope="module")
def large() -> Reenactor:
    """An untrained renderer of larger portraits, too."""
    sizes = {
        "size": 64,
        "width": 8,
        "blocks": 1,
        "latent_dim": 32,
        "face_views": 8,
        "style_dim": 8,
        "painters": 8,
    }
    return Reenactor(build_network("warp_renderer", **sizes).eval())


def test_a_larger_portrait_is_rendered_at_its_size_where_the_renderer_can(model, large):
    with pytest.raises(UserError, match=r"--size 64: this model renders frames of 32 pixels"):
        model.prepare_source(torch.zeros(3, 64, 64), 64)
    assert large.sizes == [64, 128, 192, 256, 320, 384, 448, 512]
    portrait = torch.rand(3, 150, 150) * 2 - 1
    driving = large.motion_of(torch.rand(2, 3, 80, 80) * 2 - 1)
    for size in (None, 128):
        frames = list(large.render(large.prepare_source(portrait, size), driving))
        assert [frame.shape for frame in frames] == [(size or 64, size or 64, 3)] * 2


class HalfPerson(torch.nn.Module):
    """Stands for a renderer that tells a person in the left half, or, in its own motion, in the upper one."""

    def decode(self, source, motion):
        person = torch.zeros(len(motion), 1, 64, 64)
        for mask, driven in zip(person, motion, strict=True):
            mask[0, :32] = driven.any() == 0
            mask[0, :, :32] += driven.any()
        return DecoderOutput(torch.zeros(len(motion), 3, 64, 64), person=person)


def test_covers_hold_the_person_of_portrait_and_frame_with_a_soft_rim(model, large):
    source = large.prepare_source(torch.zeros(3, 64, 64))._replace(motion=torch.zeros(1, 20))
    half = Reenactor(HalfPerson())
    half.autoencoder.register_parameter("weight", torch.nn.Parameter(torch.zeros(1)))
    covers = [cover for _, cover in half.render_covers(source, torch.ones(3, 20))]
    assert len(covers) == 3
    for cover in covers:
        assert cover.shape == (64, 64)
        assert (cover[:32] == 1).all()
        assert (cover[:, :32] == 1).all()
        assert cover[40:, 40:].max() == 0
        assert 0 < cover[33, 33] <= 1
    untold = [
        cover
        for _, cover in model.render_covers(model.prepare_source(torch.zeros(3, 32, 32)), torch.zeros(2, 20))
    ]
    assert untold == [None, None]


def test_every_option_changes_the_motion_and_the_seed_repeats_it(model, source, tmp_path):
    base = model.generate_motion(source, speech(100))
    assert torch.equal(base, model.generate_motion(source, speech(100), GenerationOptions()))
    np.savez(tmp_path / "statistics.npz", mean=np.zeros(20, np.float32), std=np.ones(20, np.float32))
    seen = [base]
    for change in (
        {"intensity": 2.0},
        {"intensity": 2.0, "scaling": "statistics"},
        {"mouth_intensity": 0.5},
        {"eyes_intensity": 0.5},
        {"statistics": "none"},
        {"statistics": "source"},
        {"statistics": "previous"},
        {"statistics": str(tmp_path / "statistics.npz")},
        {"std_quantile": 0.9},
        {"steps": 2},
        {"guidance": 2.0},
        {"statistics_guidance": 2.0},
        {"temperature": 0.5},
        {"mouth_temperature": 0},
        {"seed": 1},
    ):
        motion = model.generate_motion(source, speech(100), GenerationOptions(**change))
        assert not any(torch.allclose(motion, other) for other in seen), change
        seen.append(motion)


@pytest.mark.parametrize("scaling", ["motion", "statistics"])
def test_lids_are_scaled_about_those_of_the_portrait_whatever_the_head_does(model, source, scaling):
    rest, eyes = model.basis.encode(source.motion), model.basis.blocks["eyes"]
    options = GenerationOptions(intensity=2.0, scaling=scaling)
    plain, scaled = (
        model.basis.encode(
            model.generate_motion(source, speech(100), replace(options, eyes_intensity=factor))
        )
        for factor in (1.0, 1.5)
    )
    expected = rest + 1.5 * (plain - rest)
    torch.testing.assert_close(scaled[:, eyes], expected[:, eyes], atol=1e-3, rtol=1e-3)
    others = [place for place in range(20) if place not in range(20)[eyes]]
    torch.testing.assert_close(scaled[:, others], plain[:, others], atol=1e-3, rtol=1e-3)


def test_noise_of_the_mouth_has_a_temperature_of_its_own(model, source, monkeypatch):
    """The model's own, unless one is asked for; beside that of all."""
    drawn = []
    real = model.diffusion.sample
    monkeypatch.setattr(
        model.diffusion,
        "sample",
        lambda network, noise, *more: drawn.append(noise) or real(network, noise, *more),
    )
    mouth = torch.zeros(20, dtype=torch.bool)
    mouth[model.basis.blocks["mouth"]] = True
    for own, options, factor in (
        (0.5, {}, 0.5),
        (0.5, {"mouth_temperature": 2, "temperature": 3}, 6),
        (1.0, {}, 1),
    ):
        monkeypatch.setattr(model.diffusion, "mouth_temperature", own)
        model.generate_motion(source, speech(64), GenerationOptions(**options))
        assert drawn[-1][..., mouth].std() == pytest.approx(factor, rel=0.2)
        assert drawn[-1][..., ~mouth].std() == pytest.approx(options.get("temperature", 1), rel=0.2)


def test_statistics_of_the_mouth_are_the_expected_ones_at_no_temperature(model, source):
    """Whatever the seed, for a first window; those of head and eyes differ."""
    audio, mouth = model.speech_features(speech(64)), model.basis.blocks["mouth"]
    rest = torch.ones(20, dtype=torch.bool)
    rest[mouth] = False

    def asked(**options):
        return model.motion_and_request(source, audio, GenerationOptions(**options)).requested[0]

    cold, other = (asked(mouth_temperature=0, seed=seed) for seed in (0, 1))
    torch.testing.assert_close(cold[mouth], other[mouth])
    assert not torch.isclose(cold[rest], other[rest]).any()
    warm, other = (asked(mouth_temperature=1, seed=seed) for seed in (0, 1))
    assert not torch.isclose(warm[mouth], other[mouth]).any()
    torch.testing.assert_close(
        asked(mouth_temperature=1, seed=0)[rest], asked(mouth_temperature=0, seed=0)[rest]
    )


def test_scalings_that_are_one_have_one_name():
    for asked, by_construction, name in (
        (GenerationOptions(intensity=0.5, scaling="motion"), True, "statistics"),
        (GenerationOptions(intensity=1.5, scaling="motion"), True, "motion"),
        (GenerationOptions(intensity=0.5, scaling="motion"), False, "motion"),
        (GenerationOptions(), False, "motion"),
    ):
        assert asked.scaling_of(by_construction) == name


def test_what_was_requested_is_what_the_windows_were_given_scaled(model, source):
    """The same request under both scalings; it is the estimator's, block by block as the intensities say."""
    audio, blocks = model.speech_features(speech(100)), model.basis.blocks
    plain = model.motion_and_request(source, audio).requested
    assert plain.shape == (2, 20)
    for scaling in ("motion", "statistics"):
        options = GenerationOptions(intensity=2.0, mouth_intensity=0.5, eyes_intensity=1.5, scaling=scaling)
        motion, scaled = model.motion_and_request(source, audio, options)
        assert torch.equal(motion, model.motion_from_features(source, audio, options))
        for block, factor in {"head": 2.0, "mouth": 0.5, "eyes": 1.5, "rest": 2.0}.items():
            torch.testing.assert_close(scaled[:, blocks[block]], factor * plain[:, blocks[block]])
    low = GenerationOptions(statistics="none", std_quantile=0.1)
    expected = model.estimator.std_quantile(0.1)[None].expand(2, -1)
    torch.testing.assert_close(model.motion_and_request(source, audio, low).requested, expected)
    assert model.motion_and_request(source, audio, GenerationOptions(statistics="source")).requested is None


@pytest.fixture(scope="module")
def followed(model):
    """The model, as if its windows were in units of their statistics."""
    diffusion, estimator = replace(model.diffusion, standardised=True), copy.deepcopy(model.estimator)
    estimator.target_mean[
        20:
    ] = -2.0  # of the logarithm of the std: so small that no coefficient leaves [-1, 1]
    estimator.target_scale.fill_(0.1)
    parts = (model.autoencoder, model.basis, model.denoiser, diffusion, estimator, model.frontend)
    return TalkingHead(*parts).eval()


@pytest.mark.parametrize("statistics", ["estimated", "none", "source", "previous"])
@pytest.mark.parametrize("intensity", [0.25, 1.0, 2.0])
def test_by_construction_motion_has_the_std_that_was_requested(followed, source, statistics, intensity):
    options = GenerationOptions(intensity=intensity, statistics=statistics)
    audio, blocks = followed.speech_features(speech(128)), followed.basis.blocks
    found, asked = followed.motion_and_request(source, audio, options)
    plain = followed.motion_and_request(source, audio, replace(options, intensity=1.0)).requested
    options = replace(options, mouth_intensity=0.5, eyes_intensity=1.5)
    other, scaled = followed.motion_and_request(source, audio, options)
    for told, request, factors in (
        ("head", asked, (intensity, 1.0, 1.0)),
        ("all", scaled, (intensity, 0.5, 1.5)),
    ):
        for block, factor in zip(("head", "mouth", "eyes"), factors, strict=True):
            expected = factor * plain[:1, blocks[block]]
            torch.testing.assert_close(request[:1, blocks[block]], expected, msg=f"{told}: {block}")
    # A mouth is scaled about closed lips, which the portrait's before the first window needn't be.
    for moved, request, names in (
        (found, asked, ("head", "mouth", "eyes")),
        (other, scaled, ("head", "eyes")),
    ):
        motion = followed.basis.encode(torch.cat([source.motion, moved]))
        for window, wanted in enumerate(request):
            std = motion[64 * window : 64 * window + 65].std(dim=0)
            for block in names:
                torch.testing.assert_close(std[blocks[block]], wanted[blocks[block]], atol=0.02, rtol=0.05)


def test_by_construction_no_estimator_is_needed_where_nothing_is_estimated(followed, source):
    parts = (
        followed.autoencoder,
        followed.basis,
        followed.denoiser,
        followed.diffusion,
        None,
        followed.frontend,
    )
    alone = TalkingHead(*parts).eval()
    motion = alone.generate_motion(source, speech(70), GenerationOptions(statistics="none"))
    assert motion.shape == (70, 20)
    with pytest.raises(UserError, match="no estimator"):
        alone.generate_motion(source, speech(70))


def test_without_a_std_intensity_scales_the_motion_itself(model, source):
    options = [GenerationOptions(statistics="none", intensity=intensity) for intensity in (0.0, 1.0)]
    motions = [model.generate_motion(source, speech(64), one) for one in options]
    still, moving = (model.basis.encode(motion) for motion in motions)
    blocks = model.basis.blocks
    assert still[:, blocks["head"]].std(0).max() < 1e-3
    assert moving[:, blocks["head"]].std(0).min() > 1e-3
    assert torch.allclose(still[:, blocks["mouth"]], moving[:, blocks["mouth"]], atol=1e-3)


def test_a_saved_folder_loads_to_the_same_model(model, source, tmp_path):
    model.save_pretrained(tmp_path / "model", half=False)
    loaded = TalkingHead.from_pretrained(tmp_path / "model")
    motion = model.generate_motion(source, speech(20))
    assert torch.equal(loaded.generate_motion(loaded.prepare_source(source.image), speech(20)), motion)
    assert loaded.basis.blocks == model.basis.blocks
    model.save_pretrained(tmp_path / "half")
    whole, half = (
        sum(path.stat().st_size for path in (tmp_path / name).rglob("*.safetensors"))
        for name in ("model", "half")
    )
    assert half < 0.6 * whole


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("intensity", (-1.0, math.nan, 1e38, "high", None)),
        ("mouth_intensity", (-1.0, True)),
        ("eyes_intensity", (-1.0, "high")),
        ("std_quantile", (2.0,)),
        ("statistics", ("nonsense",)),
        ("scaling", ("nonsense",)),
        ("guidance", (math.nan, math.inf)),
        ("statistics_guidance", (math.nan, "high")),
        ("temperature", (-1.0, None)),
        ("steps", (0,)),
        ("seed", (-1, 10**20, 1.5, None)),
    ],
)
def test_options_out_of_range_can_not_be_made(name, values):
    for value in values:
        with pytest.raises(UserError, match=name.replace("_", "[ _]") if name != "statistics" else value):
            GenerationOptions(**{name: value})


def test_options_that_a_model_can_not_follow_are_user_errors(model, build_model, source, tmp_path):
    with pytest.raises(UserError, match="mouth"):
        build_model(blocks=False).generate_motion(source, speech(2), GenerationOptions(mouth_intensity=2.0))
    np.savez(tmp_path / "short.npz", mean=np.zeros(3), std=np.ones(3))
    with pytest.raises(UserError, match="shape"):
        GenerationOptions(statistics=str(tmp_path / "short.npz")).check(model)
    (tmp_path / "bad.npz").write_text("text")
    with pytest.raises(UserError, match=r"bad\.npz"):
        read_statistics(tmp_path / "bad.npz", 20)
    np.savez(tmp_path / "cut.npz", mean=np.zeros(20), std=np.ones(20))
    for kept in (0, 100, 400):
        (tmp_path / "less.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:kept])
        with pytest.raises(UserError, match=r"less\.npz"):
            read_statistics(tmp_path / "less.npz", 20)


def head_of_array(shape, dtype="<f4"):
    """A ``.npy`` file that claims an array and holds none of it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (head_of_array((10**13,)), "claims"), (head_of_array((20,), "|O") + bytes(160), "claims"),
        (head_of_array((20,)) + bytes(2**26), "over 1 MB"), (head_of_array((2**62, 4)), "claims"), (b"", "magic"),
        (head_of_array((20,), "<U1") + bytes(80), "claims"), (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "Header info"),
    ],
)  # fmt: skip
def test_statistics_that_claim_or_unpack_to_too_much(tmp_path, content, reason):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("mean.npy", "w") as member:
        for start in range(0, len(content), 2**20):
            member.write(content[start : start + 2**20])
    tracemalloc.start()
    with pytest.raises(UserError, match=rf"bomb\.npz.*{reason}") as caught:
        read_statistics(path, 20)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20e6
    assert "\n" not in str(caught.value)


def test_a_model_without_a_token_says_so_instead_of_ignoring_what_it_is_told(model, source, tmp_path):
    np.savez(tmp_path / "statistics.npz", mean=np.zeros(20, np.float32), std=np.ones(20, np.float32))
    file = {"statistics": str(tmp_path / "statistics.npz")}
    of_mean, of_std = [{"statistics": mode} for mode in ("source", "previous")], [{"std_quantile": 0.5}]
    for tokens, refused, taken in (
        (["hint", "mean"], [*of_std, file], of_mean),
        (["hint"], [*of_std, *of_mean, file], []),
        (["hint", "std"], [*of_mean, file], of_std),
    ):
        torch.manual_seed(0)
        denoiser = build_network(**(network_spec(model.denoiser) | {"tokens": tokens})).eval()
        for parameter in denoiser.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        other = TalkingHead(
            model.autoencoder, model.basis, denoiser, model.diffusion, model.estimator, model.frontend
        )
        for change in refused:
            with pytest.raises(UserError, match=r"^[^\n]*not steered by a (std|mean)[^\n]*$"):
                GenerationOptions(**change).check(other)
        for change in (*taken, {}, {"statistics": "none"}):
            GenerationOptions(**change).check(other)
        if "std" not in tokens:  # intensity scales the motion itself
            by_statistics, by_motion = (
                other.generate_motion(source, speech(64), GenerationOptions(intensity=0.0, scaling=scaling))
                for scaling in ("statistics", "motion")
            )
            assert torch.equal(by_statistics, by_motion)


def test_networks_in_training_generate_the_same_without_an_estimator(model, source, tmp_path):
    """What callbacks build: nothing of the networks is changed, and the numbers are those of the whole model."""
    model.denoiser.requires_grad_(True)
    bare = TalkingHead(model.autoencoder, model.basis, model.denoiser, model.diffusion)
    assert all(parameter.requires_grad for parameter in bare.denoiser.parameters())
    model.denoiser.requires_grad_(False)
    features = model.speech_features(speech(70))
    for mode in ("none", "source", "previous"):
        options = GenerationOptions(statistics=mode)
        assert torch.equal(
            bare.motion_from_features(source, features, options),
            model.generate_motion(source, speech(70), options),
        )
    for options in (GenerationOptions(), GenerationOptions(statistics="none", std_quantile=0.5)):
        with pytest.raises(UserError, match="no estimator"):
            bare.motion_from_features(source, features, options)
    with pytest.raises(UserError, match="needs an estimator"):
        bare.save_pretrained(tmp_path)


def test_damaged_folders_are_user_errors(model, tmp_path):
    with pytest.raises(UserError, match="shipped: synthetic-128"):
        resolve_model(tmp_path / "nothing")
    model.save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "diffusion" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        TalkingHead.from_pretrained(tmp_path / "model")
    weights.unlink()
    with pytest.raises(UserError, match="missing"):
        TalkingHead.from_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").rename(tmp_path / "model" / "config.yaml")
    with pytest.raises(UserError, match="--convert"):
        TalkingHead.from_pretrained(tmp_path / "model")


def test_stages_that_do_not_fit_each_other_are_user_errors(model, tmp_path):
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    whole = json.loads(path.read_text())
    for place, value, told in (
        (("format",), 2, "format 2"),
        (("networks",), {}, "needs the networks"),
        (("diffusion", "unknown"), 1, "no argument 'unknown'"),
        (("networks", "autoencoder", "size"), 100, "can't be built"),
        (("networks", "autoencoder", "motion_dim"), 10, "numbers of motion"),
        (("networks", "autoencoder", "latent_dim"), 32, "appearance latent"),
        (("networks", "statistics", "audio_encoder", "in_dim"), 80, "different audio features"),
        (("networks", "diffusion", "window"), 32, "windows of 32 frames"),
        (("networks", "diffusion", "width"), 36, "don't fit the network"),
        (("networks", "diffusion"), whole["networks"]["statistics"], "of another kind"),
        (("audio", "name"), "mfcc", "unknown"),
    ):
        config = copy.deepcopy(whole)
        node = config
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        path.write_text(json.dumps(config))
        with pytest.raises(UserError, match=told):
            TalkingHead.from_pretrained(tmp_path)
