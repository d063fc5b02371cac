"""Every ablation says a claim, changes what it names, and builds; wrong files are told in a line."""

from pathlib import Path

import pytest
import torch
import transformers

from datamodules.batches import CONTEXT, WINDOW, MotionWindowBatch
from datamodules.errors import UserError
from experiments.ablations import ablation_names, read_ablation, read_base, refuse_without_effect
from experiments.config import compose, config_names, instantiate
from experiments.multirun import run_multirun
from lightning_modules.audio_frontend import FRONTENDS, LAYERS
from lightning_modules.generation.options import GenerationOptions
from lightning_modules.networks.motion_basis import MotionBasis

ABLATIONS = {name: read_ablation(name) for name in ablation_names()}
TRAINED = [name for name, one in ABLATIONS.items() if one.stage is not None]
ASKED = [name for name, one in ABLATIONS.items() if one.stage is None]
REFUSED = {
    "synthetic_tiny": "no_perceptual no_gan target_x0 audio_mel",
    "synthetic_small": "no_perceptual no_gan target_x0 audio_mel",
    "synthetic_base": "target_x0 audio_mel",
    "synthetic_warp": "no_gan target_x0 audio_mel",
    "hdtf_base": "target_x0 audio_mel",
    "hdtf_paper": "target_epsilon audio_wav2vec2 paper_dropout zero_null hint_token statistics_tokens estimator_without_hint"
    " own_joined_audio no_mouth_weight no_speech_readout raw_basis",
    "voxceleb_base": "target_x0 audio_mel",
}
"""What a base has or lacks already."""
OF_RENDERER = {
    "warp_renderer": [
        "no_occlusion", "no_dense_flow", "no_person_mask", "no_painters", "no_twins", "no_deformation", "no_backdrop",
        "no_disguise", "no_known_features", "factored_32", "no_close_look", "no_detail",
    ],
    "paper_renderer": ["no_local_flow"],
}  # fmt: skip
"""Ablations of parts that one renderer alone has; the others find them off, or have no such key."""
SMALL = {
    "autoencoder": ["size.autoencoder.channels={4: 8, 8: 8, 16: 8, 32: 8, 64: 8, 128: 8, 256: 8}"],
    "statistics": ["size.statistics.width=16", "size.statistics.audio_width=8"],
    "diffusion": ["size.diffusion.width=16", "size.diffusion.audio_width=8", "size.diffusion.depth=1"],
}


@pytest.mark.parametrize("base", config_names("base"))
def test_every_training_composes_on_each_base_or_changes_nothing_there(base: str) -> None:
    training = read_base(base).training
    renderer = compose(training["autoencoder"]).model.network.name
    foreign = {name for of, names in OF_RENDERER.items() if of != renderer for name in names}
    known = [name for name in TRAINED if name not in foreign]
    for stage, words in training.items():  # all at once: of one key the last
        every = {word.partition("=")[0]: word for name in known for word in ABLATIONS[name].words(stage)}
        assert compose([*words, *every.values()]).stage == stage
    expected, refused = REFUSED[base].split(), []
    asked = known if base in ("synthetic_base", "hdtf_paper") else [*expected, *OF_RENDERER[renderer]]
    for name in asked:
        try:
            refuse_without_effect(ABLATIONS[name], training, base)
        except UserError as error:
            refused.append((name, str(error)))
    assert {name for name, _ in refused} == set(expected)
    assert all(told.startswith(f"ablation={n} changes nothing in base={base} (") for n, told in refused)


@pytest.mark.parametrize("name", ASKED)
def test_an_evaluation_takes_its_words(name: str) -> None:
    config = compose(ABLATIONS[name].generation_words(), "evaluate")
    options = GenerationOptions(**config.generation)
    assert (options == GenerationOptions()) is False
    with pytest.raises(UserError, match="changes no training: add generation"):
        compose(["experiment=diffusion_tiny", f"ablation={name}"])


def test_an_evaluation_as_the_model_does_itself_is_refused() -> None:
    training = read_base("synthetic_small").training
    for name in ("steps_8", "guidance_2"):
        with pytest.raises(UserError, match="changes nothing in base=synthetic_small"):
            refuse_without_effect(ABLATIONS[name], training, "synthetic_small")
    for name in ("steps_4", "guidance_1", "mouth_temperature_1", "no_estimator_none"):
        refuse_without_effect(ABLATIONS[name], training, "synthetic_small")


@pytest.mark.parametrize("name", [name for name in TRAINED if ABLATIONS[name].stage == "autoencoder"])
def test_an_autoencoder_without_its_part_builds(name: str) -> None:
    warp = name in OF_RENDERER["warp_renderer"]
    base = read_base("synthetic_warp" if warp else "synthetic_base")
    words = [*base.training["autoencoder"], f"ablation={name}", *([] if warp else SMALL["autoencoder"])]
    random = not warp and name != "no_perceptual"
    pretrained = ["model.losses.perceptual.features.pretrained=random"] if random else []
    with torch.device("meta"):
        model = instantiate(compose([*words, *pretrained]).model)
        side = model.network.size
        source = model.network.encode(torch.zeros(1, 3, side, side))
        assert model.network.decode(source, source.motion).flow.shape == (1, 2, side, side)
    assert compose(words).ablations == [name]


def speech_model(name: str, folder: Path) -> str:
    """A folder with a speech model of 16 channels and random weights."""
    kind = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert"}[name.removesuffix(LAYERS)]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = getattr(transformers, f"{kind}Config")(
        **sizes, conv_dim=[8] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2
    )
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("name", "stage"),
    [(n, s) for n in TRAINED for s in ("statistics", "diffusion") if ABLATIONS[n].words(s)],
)
def test_an_ablation_of_the_motion_stages_learns(name: str, stage: str, tmp_path: Path) -> None:
    words = [f"experiment={stage}_tiny", f"ablation={name}", *SMALL[stage]]
    speech = name.removeprefix("audio_")
    if speech == "whisper":
        pytest.importorskip("ctranslate2", reason="pip install 'ifmdm[whisper]'")
    if speech in FRONTENDS and speech not in ("mel", "whisper"):
        source, layers = speech_model(speech, tmp_path / "speech"), 2 if speech.endswith(LAYERS) else 1
        encoder = "model.network.audio_encoder"
        words += [f"audio.source={source}", f"{encoder}.in_dim={16 * layers}"]
        words += [f"++{encoder}.layers={layers}"] * (layers > 1)
    config = compose(words)
    torch.manual_seed(0)
    audio = instantiate(config.audio)(torch.randn(1, 640 * WINDOW)).expand(2, -1, -1)
    model = instantiate(config.model, basis=MotionBasis(config.motion_dim))
    motion = torch.randn(3, 2, WINDOW + 1, config.motion_dim)
    around = audio[:, None, : 2 * CONTEXT].expand(-1, 2, -1, -1)
    batch = MotionWindowBatch(
        motion[0], audio, motion[1, :, 0], torch.randn(2, 512), motion[2], torch.ones(2, WINDOW, dtype=torch.bool), around
    )  # fmt: skip
    if stage == "statistics":
        loss = -model.predict(batch).log_prob(model.network.target(*model.measure(batch))).mean()
    else:
        torch.nn.init.normal_(model.network.final.weight)
        window = model.encode(batch)
        loss = model.losses(window, torch.tensor([0.2, 0.8]), torch.randn_like(window.x0), None)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.network.parameters())


def test_words_go_to_the_stages_that_read_them() -> None:
    shared, own = ABLATIONS["templates_10"], ABLATIONS["no_local_flow"]
    assert [shared.words(s) for s in ("autoencoder", "statistics", "diffusion")] == [["motion_dim=10"]] * 3
    assert own.words("autoencoder") == ["model.network.local_flow=false"]
    assert own.words("statistics") == own.words("diffusion") == own.words("sync") == []
    assert ABLATIONS["raw_basis"].words("autoencoder") == []
    assert ABLATIONS["raw_basis"].words("diffusion") == ["basis=raw"]


def test_several_are_laid_over_each_other_and_the_users_words_win(tmp_path: Path) -> None:
    mine = tmp_path / "my own.yaml"
    mine.write_text("# Is one enough?\nstage: diffusion\noverrides: [model.network.depth=1, seed=7]\n")
    config = compose(
        ["experiment=diffusion_tiny", f"ablation=[no_std,zero_null,'{mine}']", "model.network.tokens=[mean]"]
    )
    network = config.model.network
    assert (network.tokens, network.null_condition, network.depth) == (["mean"], "zero", 1)
    assert config.ablations == ["no_std", "zero_null", "my own"]
    assert compose(["experiment=diffusion_tiny", f"ablation={mine}"]).seed == 7


def test_a_multirun_trains_once_for_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = []

    def note(config, words):
        jobs.append((list(config.ablations), list(config.model.network.tokens), list(words)))
        return type("Result", (), {"metrics": {}})

    monkeypatch.setattr("experiments.multirun.run_training", note)
    run_multirun(["experiment=diffusion_tiny", "ablation=no_std,no_hint", "trainer.accelerator=cpu"])
    assert [job[:2] for job in jobs] == [(["no_std"], ["hint", "mean"]), (["no_hint"], ["mean", "std"])]
    assert "ablation=no_hint" in jobs[1][2]
    with pytest.raises(UserError, match="ablation=nonsense: there are"):
        run_multirun(["experiment=diffusion_tiny", "ablation=no_std,nonsense"])
    assert len(jobs) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stage: diffusion\noverrides: [seed=1]", "begin with a comment"),
        ("# Claim\nstage: renderer\noverrides: [seed=1]", "there is no stage 'renderer'"),
        ("# Claim\nstage: diffusion\noverrides: seed=1", "overrides: write a list"),
        ("# Claim\nstage: diffusion\noverrides: []", "changes nothing"),
        ("# Claim\nstage: diffusion\noverrides: [seed]", "'seed' is no text KEY=VALUE"),
        ("# Claim\nstage: diffusion\noverrides: [{seed: 1}]", "is no text KEY=VALUE"),
        ("# Claim\nstage: diffusion\noverrides: ['seed=1,2']", "gives several values"),
        ("# Claim\nstage: null\noverrides: [seed=1]", "seed=1 needs training"),
        ("# Claim\nstage: diffusion\noverrides: [generation.steps=1]", "nothing of stage 'diffusion' is changed"),
        ("# Claim\noverrides: [seed=1]", "has overrides; it must have the keys stage and overrides"),
        ("# Claim", "has no keys"),
        ("# Claim\nstage: [", "is no YAML"),
        ("# Claim\nstage: autoencoder\noverrides: [seed=1]", "changes stage 'autoencoder', but the experiment trains"),
        ("# Claim\nstage: diffusion\noverrides: [model.network.dept=1]", "did you mean model.network.depth"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_in_a_line(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        compose(["experiment=diffusion_tiny", f"ablation={tmp_path}/mine.yaml"])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("ablation=nonsense", "ablation=nonsense: there are "),
        ("ablation=no/where.yaml", "no/where.yaml: can't be read"),
        ("ablation=[no_std,null]", "null is no name"),
        ("ablation=no_std ablation=zero_null", "write ablation=[a,b]"),
    ],
)
def test_a_wrong_word_is_told_in_a_line(word: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        compose(["experiment=diffusion_tiny", *word.split()])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_base_names_an_experiment_of_each_stage(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# Mine\nautoencoder: [seed=1]\nstatistics: []\ndiffusion: []\nevaluation: []\n")
    with pytest.raises(UserError, match="autoencoder: name an experiment of that stage"):
        read_base(str(file))
    with pytest.raises(UserError, match="base=nothing: there are hdtf_base"):
        read_base("nothing")
