"""``ifmdm package``: makes a model folder of three trained stages, ready for ``ifmdm generate --model``.

With ``--sync-expert`` it makes the folder of a judge of lip sync instead.
"""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import UserError
from datamodules.files import require_output_folder

if TYPE_CHECKING:
    from lightning_modules.generation.talking_head import TalkingHead

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm package``."""
    for stage in ("autoencoder", "statistics", "diffusion"):
        parser.add_argument(
            f"--{stage}", type=Path, metavar="RUN", help=f"run folder or checkpoint of stage {stage}"
        )
    parser.add_argument(
        "--sync-expert", type=Path, metavar="RUN", help="instead: run folder or checkpoint of stage sync"
    )
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument(
        "--full", action="store_true", help="keep float32 weights (default: float16, half the size)"
    )


def run(args: argparse.Namespace) -> int:
    """Package as the command line says."""
    require_output_folder(args.output)
    if (args.output / "config.yaml").exists():
        raise UserError(f"{args.output}: holds a model already; choose another folder or delete it")
    runs = {"autoencoder": args.autoencoder, "statistics": args.statistics, "diffusion": args.diffusion}
    given, missing = (
        [f"--{k}" for k, v in runs.items() if (v is None) is absent] for absent in (False, True)
    )
    if args.sync_expert is not None:
        if given:
            raise UserError(f"--sync-expert makes a folder of its own: leave {', '.join(given)} out")
        pack_sync_expert(args.sync_expert, args.output, half=not args.full)
        log.info("sync expert: %s", args.output)
        return 0
    if missing:
        raise UserError(f"a talking head needs all three stages: give {', '.join(missing)}, too")
    model = assemble(args.autoencoder, args.statistics, args.diffusion)
    args.output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.output, half=not args.full)
    write_card(args.output, model, runs)
    log.info("model folder: %s", args.output)
    return 0


def assemble(autoencoder: Path, statistics: Path, diffusion: Path) -> "TalkingHead":
    """Talking head of three training runs.

    Args:
        autoencoder: run folder or checkpoint of stage 1.
        statistics: of stage 2.
        diffusion: of stage 3.

    Raises:
        UserError: a run is missing or of another stage, or the runs don't belong together: stages 2 and 3 were trained on
            the motion of another autoencoder, in different motion bases or on different audio features.
    """
    import torch

    from lightning_modules.audio_frontend import AudioFrontend
    from lightning_modules.checkpoints import (
        find_checkpoint,
        load_network,
        load_state,
        run_config,
        weights_hash,
    )
    from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
    from lightning_modules.generation.talking_head import TalkingHead
    from lightning_modules.networks.motion_basis import MotionBasis

    runs = {"autoencoder": autoencoder, "statistics": statistics, "diffusion": diffusion}
    built: dict[str, Any] = {}
    networks: dict[str, dict[str, Any]] = {}
    states: dict[str, dict[str, Any]] = {}
    configs = {stage: run_config(find_checkpoint(path)) for stage, path in runs.items()}
    for stage, path in runs.items():
        if configs[stage].get("stage") != stage:
            raise UserError(f"{path}: is a run of stage {configs[stage].get('stage')}, not {stage}")
        built[stage], networks[stage], states[stage] = load_network(path)
    motion_space = weights_hash(built["autoencoder"])
    for stage in ("statistics", "diffusion"):
        if configs[stage].get("motion_space") != motion_space:
            raise UserError(
                f"{runs[stage]}: trained on the motion of another autoencoder than {autoencoder} as it is now"
            )
    if configs["statistics"]["audio"] != configs["diffusion"]["audio"]:
        raise UserError(f"{statistics} and {diffusion}: trained on different audio features")
    bases = {stage: _part(states[stage], "basis.") for stage in ("statistics", "diffusion")}
    if not all(torch.equal(bases["statistics"][k], v) for k, v in bases["diffusion"].items()):
        raise UserError(
            f"{statistics} and {diffusion}: trained in different motion bases; train both on one autoencoder"
        )
    basis = MotionBasis(built["autoencoder"].motion_dim)
    load_state(basis, bases["diffusion"], diffusion)
    config = configs["diffusion"]
    settings = {k: v for k, v in config["model"]["diffusion"].items() if k != "_target_"}
    frontend = AudioFrontend(**{k: v for k, v in config["audio"].items() if k != "_target_"})
    return TalkingHead(
        built["autoencoder"],
        basis,
        built["diffusion"],
        GaussianDiffusion(**settings),
        built["statistics"],
        frontend,
        networks,
    )


def write_card(folder: Path, model: "TalkingHead", runs: dict[str, Path]) -> None:
    """Write the model card ``README.md``: what was trained, by which runs, for how long, with which last measures."""
    weights = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    lines = [
        f"# {folder.name}",
        "",
        f"Talking-head model of ifmdm: {model.size} px, 25 fps, {weights:.1f} M parameters.",
        f"Use: `ifmdm generate --model {folder.name} --image portrait.jpg --audio speech.wav --output video.mp4`",
        "",
        *_card_table(runs),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pack_sync_expert(run: Path, folder: Path, half: bool = True) -> None:
    """Write the judge of lip sync that a run of stage ``sync`` trained, as `metrics.judges.syncnet.load_expert` reads it.

    Args:
        run: run folder or checkpoint.
        folder: gets ``model.safetensors``, ``config.yaml`` and a model card.
        half: write matrices and kernels as float16.

    Raises:
        UserError: missing or unreadable run, or a run of another stage.
    """
    import torch
    import yaml

    from lightning_modules.checkpoints import find_checkpoint, load_state, run_config, write_weights
    from metrics.judges.syncnet import EXPERT_CONFIG, EXPERT_WEIGHTS, SyncNet

    checkpoint = find_checkpoint(run)
    config = run_config(checkpoint)
    if config.get("stage") != "sync":
        raise UserError(f"{run}: is a run of stage {config.get('stage')}, not sync")
    try:
        settings = {key: config["model"]["network"][key] for key in ("width", "size", "region")}
        network = SyncNet(**settings)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise UserError(f"{checkpoint}: can't be read as a sync expert ({type(error).__name__})") from error
    load_state(network, _part(state, "network."), checkpoint)
    write_weights(folder / EXPERT_WEIGHTS, network, half)
    (folder / EXPERT_CONFIG).write_text(yaml.safe_dump(settings), encoding="utf-8")
    weights = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    lines = [
        f"# {folder.name}",
        "",
        f"SyncNet of ifmdm: {settings['size']} px, 25 fps, {settings['width']:g} of the published width, {weights:.2f} M "
        "parameters. A judge of lip sync, never a loss; its distances can't be compared with those of the public SyncNet.",
        "",
        *_card_table({"sync": run}),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _card_table(runs: dict[str, Path]) -> list[str]:
    """Lines of the table of runs in a model card."""
    import json

    import torch

    from lightning_modules.checkpoints import find_checkpoint

    lines = [
        "| stage | config hash | commit | steps | minutes of the run | its last validation |",
        "|---|---|---|---|---|---|",
    ]
    for stage, path in runs.items():
        checkpoint = find_checkpoint(path)
        steps = torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"]
        record_path = checkpoint.resolve().parents[1] / "run.json"
        record = json.loads(record_path.read_text()) if record_path.is_file() else {}
        identity = record.get("identity", {})
        shown = {k: v for k, v in record.get("metrics", {}).items() if k in CARD_MEASURES}
        measures = ", ".join(f"{k.removeprefix('val/')} {v:.3g}" for k, v in sorted(shown.items()))
        minutes = f"{record['seconds'] / 60:.0f}" if "seconds" in record else "?"
        cells = [
            stage,
            identity.get("config_hash", "?"),
            str(identity.get("commit", "?"))[:10],
            steps,
            minutes,
        ]
        lines.append("| " + " | ".join(str(cell) for cell in [*cells, measures or "?"]) + " |")
    return lines


CARD_MEASURES = (
    "val/psnr",
    "val/psnr_copy",
    "val/nll",
    "val/nll_unconditional",
    "val/loss",
    "val/accuracy",
    "val/sample_correlation_mouth",
)


def _part(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
