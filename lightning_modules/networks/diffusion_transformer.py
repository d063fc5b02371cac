"""Diffusion transformer over motion windows: framewise audio guidance, motion-statistics tokens (IF-MDM)."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.motion_conditions import CONDITION_TOKENS, Conditions, KeepMask
from lightning_modules.networks.statistics_estimator import STD_FLOOR
from lightning_modules.networks.transformer_blocks import CrossAttention, DiTBlock

MOST_PREFIX = 16
"""Frames; as many as windows of the data come with speech of."""
AUDIO_CONDITIONINGS = ("framewise", "mean", "cross_attention")
"""How speech reaches the frames beside the joined branch: modulation by their own or by the mean audio, or attention."""


def sinusoid(values: Tensor, dim: int) -> Tensor:
    """Sine and cosine features (arXiv 1706.03762, section 3.5); ``(...)`` -> ``(..., dim)``, ``dim`` even."""
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(dim // 2, device=values.device) / (dim // 2))
    angles = values.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _mlp(in_dim: int, hidden: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, hidden), nn.SiLU(), nn.Linear(hidden, out_dim))


class DiffusionTransformer(nn.Module):
    """Predicts the diffusion target of a motion window from noisy motion, speech and motion statistics.

    Tokens: hint frame, window mean, window std (K = 3, or those of them that are asked for), then one token a frame, those of
    a prefix before those of the window.
    For each frame the mean of its two embedded audio vectors plus the embedded time drives the modulation of that
    frame's token. The condition tokens get no time: a learned constant vector for each of them takes the place of the
    control vector. Frame positions are sinusoids, condition tokens have learned ones.

    The std enters its MLP as it is, so a std near 0 is near the token of std = 0; with
    ``null_condition="mask"`` that token is not the one of a dropped std.

    Args:
        audio_encoder: ``(B, 2T, D) -> (B, 2T, E)`` with attributes ``in_dim`` (D) and ``out_dim`` (E).
        motion_dim: Motion coefficients M.
        width: Token size W; an even multiple of ``heads``.
        depth: Blocks.
        heads: Attention heads.
        mlp_ratio: Hidden size of the blocks' MLP over W.
        window: Frames T.
        null_condition: ``"mask"``: a dropped condition is a learned vector; ``"zero"``: a zero input through
            the same layers, as the authors do.
        learned_variance: Whether the output also holds the variance.
        tokens: Conditions that the network is given, any of ``CONDITION_TOKENS``, a token for each; the others are ignored.
        audio_conditioning: ``"framewise"``; or for comparison ``"mean"``: the window's mean audio modulates every frame;
            ``"cross_attention"``: time alone modulates, frames attend to the 2T audio vectors in each block.
        joined_branch: Whether each frame's token also holds its noisy motion joined with its audio.
        prefix: P, how the hint is given: 0: by its token (the paper's); else by the P frames before the window, motion and
            speech, as tokens in front of the window's. It then hears P more frames on either side.
        statistics_modulation: Whether mean and logarithm of the std, those that ``tokens`` name, also modulate the frames'
            tokens; a dropped one is 0.
        own_joined_audio: Whether the joined branch embeds speech by weights of its own, as the authors' files do; else both
            paths hear what one encoder says.
    """

    positions: Tensor

    def __init__(
        self,
        audio_encoder: nn.Module,
        motion_dim: int = 20,
        width: int = 512,
        depth: int = 6,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        window: int = 64,
        null_condition: str = "mask",
        learned_variance: bool = False,
        tokens: Sequence[str] = CONDITION_TOKENS,
        audio_conditioning: str = "framewise",
        joined_branch: bool = True,
        prefix: int = 0,
        statistics_modulation: bool = False,
        own_joined_audio: bool = False,
    ) -> None:
        super().__init__()
        if unknown := [name for name in tokens if name not in CONDITION_TOKENS]:
            known = ", ".join(CONDITION_TOKENS)
            raise ValueError(f"no condition token named {unknown[0]!r}: use any of {known}")
        if null_condition not in ("mask", "zero"):
            raise ValueError(f"no null condition named {null_condition!r}: use mask or zero")
        if audio_conditioning not in AUDIO_CONDITIONINGS:
            known = ", ".join(AUDIO_CONDITIONINGS)
            raise ValueError(f"no audio conditioning named {audio_conditioning!r}: use any of {known}")
        if not 0 <= prefix <= MOST_PREFIX:
            raise ValueError(f"prefix is {prefix}: use a number from 0 to {MOST_PREFIX}")
        if width % (2 * heads) != 0:
            raise ValueError(f"width {width} is not an even multiple of {heads} heads")
        self.motion_dim, self.window = motion_dim, window
        self.prefix = prefix if "hint" in tokens else 0
        self.null_condition, self.learned_variance = null_condition, learned_variance
        self.audio_conditioning, self.joined_branch = audio_conditioning, joined_branch
        self.tokens = tuple(
            name for name in CONDITION_TOKENS if name in tokens and not (name == "hint" and prefix)
        )
        self.audio_encoder = audio_encoder
        self.joined_audio_encoder = (
            copy.deepcopy(audio_encoder) if joined_branch and own_joined_audio else None
        )
        audio_dim = int(audio_encoder.out_dim)  # type: ignore[arg-type]
        count = len(self.tokens)
        # Condition tokens (K, W): an MLP, a position and a constant control for each; what replaces a dropped condition.
        self.condition_embeddings = nn.ModuleList(_mlp(motion_dim, width, width) for _ in range(count))
        if self.tokens:
            self.condition_positions = nn.Parameter(torch.empty(count, width))
            self.condition_control = nn.Parameter(torch.empty(count, width))
        if null_condition == "mask":
            if self.tokens:
                self.null_tokens = nn.Parameter(torch.empty(count, width))
            self.null_audio = nn.Parameter(torch.empty(2, audio_dim))
        # Control of the frames' tokens: speech and time. With cross-attention speech is embedded to be attended to.
        self.audio_control = nn.Linear(audio_dim, width)
        self.time_control = _mlp(256, width, width)
        self.statistics_control = nn.Linear(2 * motion_dim, width) if statistics_modulation else None
        # Frame tokens (T, W): noisy motion, alone and joined with the frame's speech, and the frame's place.
        self.motion_embedding = nn.Linear(motion_dim, width)
        if joined_branch:
            self.joined_motion_embedding = nn.Linear(motion_dim, width)
            self.joined_mlp = _mlp(width + 2 * audio_dim, width, width)
        if self.prefix:  # what its frames have in place of a time, and in place of motion that is not known
            self.prefix_control = nn.Parameter(torch.empty(width))
            self.null_prefix = nn.Parameter(torch.empty(width))
        self.register_buffer(
            "positions", sinusoid(torch.arange(self.prefix + window), width), persistent=False
        )
        # Transformer, and the readout of the frames' tokens.
        listens = audio_conditioning == "cross_attention"
        self.blocks = nn.ModuleList(DiTBlock(width, heads, mlp_ratio, listens) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final = nn.Linear(width, motion_dim * (2 if learned_variance else 1))
        self._initialize()

    def _initialize(self) -> None:
        """Initial weights, all in one place; the audio encoder has its own.

        Xavier linears with zero biases; learned vectors and the time MLP with std 0.02; zero modulation, so that every block
        starts as the identity, and a zero last layer, so that the first prediction is 0 (DiT).
        """
        encoders = [net for net in (self.audio_encoder, self.joined_audio_encoder) if net is not None]
        theirs = {module for encoder in encoders for module in encoder.modules()}
        for module in self.modules():
            if isinstance(module, nn.Linear) and module not in theirs:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        vectors = (
            "condition_positions", "condition_control", "null_tokens", "null_audio", "prefix_control", "null_prefix"
        )  # fmt: skip
        learned = [getattr(self, name) for name in vectors if hasattr(self, name)]
        learned += [layer.weight for layer in self.time_control if isinstance(layer, nn.Linear)]
        for parameter in learned:
            nn.init.normal_(parameter, std=0.02)
        modulations = [block.get_submodule("modulation") for block in self.blocks]
        listening = [m.out for m in self.modules() if isinstance(m, CrossAttention)]
        for gate in (*modulations, *listening, self.final_modulation, self.final):
            assert isinstance(gate, nn.Linear)
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)

    def embed(
        self, audio: Tensor, hint: Tensor, mean: Tensor, std: Tensor, keep: KeepMask | None = None
    ) -> Conditions:
        """Embeds what does not change during the diffusion.

        Args:
            audio: ``(B, 2 (P + T + P), D)`` audio features at 50 Hz of prefix, window and what follows.
            hint: ``(B, M)`` motion of the frame before the window, basis coordinates, about unit std; or ``(B, P, M)`` of
                those before, NaN where not known.
            mean: ``(B, M)`` mean over hint and window.
            std: ``(B, M)`` unbiased standard deviation over hint and window, at least 0.
            keep: Conditions kept by each sample; all where None.
        """
        keep = keep or KeepMask.all(len(hint), hint.device)
        hint = hint if hint.ndim == 3 else hint[:, None]
        tokens = self._embed_tokens({"hint": hint[:, -1], "mean": mean, "std": std}, keep)
        # Speech as each branch hears it, and what takes its place where one drops it, of size E.
        encoded, null_modulation = joining, null_joined = self._hear(self.audio_encoder, audio)
        if self.joined_audio_encoder is not None:
            joining, null_joined = self._hear(self.joined_audio_encoder, audio)
        if self.null_condition == "mask":
            null_modulation, null_joined = self.null_audio
        modulation = torch.where(keep.modulation_audio[:, None, None], encoded, null_modulation)
        joined = torch.where(keep.joined_audio[:, None, None], joining, null_joined)
        # Two audio vectors fall on a frame: their mean modulates its token, both together join its motion.
        heard, attended = self.audio_control(modulation), None  # (B, 2 (P + T), W)
        modulated: Tensor | None = heard.unflatten(1, (-1, 2)).mean(dim=2)  # (B, P + T, W)
        if self.audio_conditioning == "mean":
            modulated = heard[:, 2 * self.prefix :].mean(dim=1, keepdim=True)  # (B, 1, W)
        elif self.audio_conditioning == "cross_attention":  # of a vector: its frame's
            modulated, attended = None, heard + self.positions.repeat_interleave(2, dim=0)
        if self.statistics_control is not None:
            kept = [
                one[:, None] & (name in self.tokens) for name, one in (("mean", keep.mean), ("std", keep.std))
            ]
            told = torch.cat([mean * kept[0], (std + STD_FLOOR).log() * kept[1]], dim=-1)
            told = self.statistics_control(told)[:, None]
            modulated = told if modulated is None else modulated + told
        together = joined.unflatten(1, (-1, 2)).flatten(2) if self.joined_branch else None  # (B, P + T, 2 E)
        prefix = None
        if self.prefix:
            known = hint.isfinite().all(dim=-1, keepdim=True) & keep.hint[:, None, None]  # (B, P, 1)
            before = None if together is None else together[:, : self.prefix]
            prefix = self._frames(hint.nan_to_num(), before, keep.joined_motion)
            prefix = torch.where(known, prefix, self.null_prefix) + self.positions[: self.prefix]
        together = None if together is None else together[:, self.prefix :]
        said = encoded[:, 2 * self.prefix :].unflatten(1, (-1, 2)).flatten(2)
        return Conditions(tokens, prefix, modulated, attended, together, keep.joined_motion, said)

    def _hear(self, encoder: nn.Module, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded speech ``(B, 2 (P + T), E)`` of prefix and window, and what a zero in its place is embedded to.

        The latter is asked for by the null condition ``zero`` alone; else it is the speech again.
        """
        encoded = encoder(audio)
        encoded = encoded[:, : encoded.shape[1] - 2 * self.prefix]
        if self.null_condition == "mask":
            return encoded, encoded
        return encoded, encoder(torch.zeros_like(audio[:1]))[:, : encoded.shape[1]]

    def _frames(self, motion: Tensor, joined: Tensor | None, joined_motion: Tensor) -> Tensor:
        """Tokens ``(B, T, W)`` of frames' motion ``(B, T, M)``, also joined with their speech ``(B, T, 2 E)``."""
        frames = self.motion_embedding(motion)
        if joined is None:
            return frames
        moved = self.joined_motion_embedding(motion) * joined_motion[:, None, None]
        return frames + self.joined_mlp(torch.cat([moved, joined], dim=-1))

    def _embed_tokens(self, values: dict[str, Tensor], keep: KeepMask) -> Tensor:
        """Condition tokens ``(B, K, W)`` of values ``(B, M)`` by name."""
        if not self.tokens:
            return values["hint"].new_zeros(len(values["hint"]), 0, self.motion_embedding.out_features)
        kept = torch.stack([getattr(keep, name) for name in self.tokens], dim=1).unsqueeze(-1)  # (B, K, 1)
        inputs = torch.stack([values[name] for name in self.tokens], dim=1)  # (B, K, M)
        # Each condition through its own MLP; a dropped one is a zero before it or a learned vector behind it.
        if self.null_condition == "zero":
            inputs = torch.where(kept, inputs, 0.0)
        layers = zip(self.condition_embeddings, inputs.unbind(1), strict=True)
        tokens = torch.stack([layer(value) for layer, value in layers], dim=1)  # (B, K, W)
        if self.null_condition == "mask":
            tokens = torch.where(kept, tokens, self.null_tokens)
        return tokens + self.condition_positions

    def denoise(self, noisy: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """One evaluation: ``(B, T, M)``, or ``(B, T, 2 M)`` with learned variance.

        Args:
            noisy: ``(B, T, M)`` noisy motion in basis coordinates.
            t: ``(B,)`` times in [0, 1].
            conditions: From ``embed``.
        """
        # Frame tokens: the noisy motion, its joint embedding with the frame's speech, the place in the window.
        frames = self._frames(noisy, conditions.joined, conditions.joined_motion)  # (B, T, W)
        frames = frames + self.positions[self.prefix :]
        # Control of each token: speech and time for frames, a constant for conditions.
        time = self.time_control(sinusoid(1000 * t, 256).to(noisy)).unsqueeze(1)  # (B, 1, W)
        time = time.expand_as(frames)
        if conditions.prefix is not None:  # no noise is on those: a constant takes the place of the time
            frames = torch.cat([conditions.prefix, frames], dim=1)  # (B, P + T, W)
            time = torch.cat([self.prefix_control.expand_as(conditions.prefix), time], dim=1)
        if conditions.modulation is not None:
            time = conditions.modulation + time
        frame_control = control = nn.functional.silu(time)  # (B, P + T, W)
        tokens = torch.cat([conditions.tokens, frames], dim=1)  # (B, K + P + T, W)
        if self.tokens:
            constant = nn.functional.silu(self.condition_control).expand(len(noisy), -1, -1)
            control = torch.cat([constant, frame_control], dim=1)  # (B, K + P + T, W)
        # Frames and conditions attend to each other.
        for block in self.blocks:
            tokens = block(tokens, control, conditions.attended, frames.shape[1])
        # The tokens of the window's frames alone are read out, modulated once more.
        shift, scale = self.final_modulation(frame_control[:, self.prefix :]).chunk(2, dim=-1)
        hidden = self.final_norm(tokens[:, len(self.tokens) + self.prefix :]) * (1 + scale) + shift
        return self.final(hidden)  # (B, T, M) or (B, T, 2 M)

    def forward(
        self,
        noisy: Tensor,
        t: Tensor,
        audio: Tensor,
        hint: Tensor,
        mean: Tensor,
        std: Tensor,
        keep: KeepMask | None = None,
    ) -> Tensor:
        """Embeds the conditions and evaluates once; arguments and result are those of ``embed`` and ``denoise``."""
        return self.denoise(noisy, t, self.embed(audio, hint, mean, std, keep))
