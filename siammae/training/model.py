"""SiamMAE: predict the masked patches of a future frame from a past frame.

Gupta, Wu, Deng, Fei-Fei, "Siamese Masked Autoencoders", NeurIPS 2023 (arXiv 2305.14344).

Letters: B pairs, T future frames of one past frame, S pixels of a crop's side, N patches of a frame, K of them visible,
M masked, D channels of the encoder, E of the decoder, p pixels of a patch's side.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from siammae.encoder import Encoder
from siammae.models.build import sincos_positions
from siammae.models.patches import has_fixed_positions
from siammae.training.decoder import EPS, DecoderBlocks
from siammae.training.masking import Masks, PatchMask, gather_patches
from siammae.training.model_config import ModelConfig, decoder_size, mask_drawer
from siammae.training.targets import Standardizer, cosine_loss

ENCODER_PREFIX = "encoder.vit."  # before the names of the encoder's weights among a SiamMAE's


def encoder_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's weights among a SiamMAE's, by timm's own keys."""
    return {key.removeprefix(ENCODER_PREFIX): value for key, value in weights.items() if key.startswith(ENCODER_PREFIX)}


class Reconstruction(NamedTuple):
    """Pictures of a batch, RGB in [0, 1], each [B, T, 3, S, S]."""

    masked: Tensor  # the future frame as the encoder sees it, masked patches gray
    prediction: Tensor  # visible patches as they are, masked ones as predicted


class SiamMAE(nn.Module):
    """An encoder with the decoder that trains it.

    `forward` is the training step's loss. The encoder's state dict keeps its own keys under `encoder.`.

    Args:
        encoder: trained with the decoder; a learned table of positions is resampled to the grid of the crops
            where it has another.
        config: the run's model.
        teacher_width: channels of the teacher's features, where the target is features; None is the encoder's width.

    Attributes:
        terms: terms of the newest loss, detached, by name, where it has several.
    """

    def __init__(self, encoder: Encoder, config: ModelConfig, *, teacher_width: int | None = None) -> None:
        super().__init__()
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)  # layers take their type, and their numbers, from torch's defaults
        try:
            with torch.device("cpu"):
                self._build(encoder, config, teacher_width)
                self._initialize_decoder()
        finally:
            torch.set_default_dtype(dtype)

    def _build(self, encoder: Encoder, config: ModelConfig, teacher_width: int | None) -> None:
        if encoder.patch_size != config.patch_size:
            raise ValueError(f"the encoder has patch size {encoder.patch_size}, the config {config.patch_size}")
        depth, width, heads = decoder_size(encoder.embed_dim)
        depth, width = config.decoder_depth or depth, config.decoder_width or width
        heads = config.decoder_heads or (heads if config.decoder_width is None else max(1, width // 32))
        self.config = config
        self.grid = config.image_size // config.patch_size
        rows, columns = encoder.vit.patch_embed.grid_size
        if encoder.vit.pos_embed is None or encoder.vit.pos_embed.shape[1] != 1 + rows * columns:
            raise ValueError(f"{encoder.architecture} has no table of positions with one for the CLS token; SiamMAE needs one")
        if (rows, columns) != (self.grid, self.grid) and has_fixed_positions(encoder):
            raise ValueError(
                f"the encoder's position table has {rows * columns} patches, the crops "
                f"{self.grid**2}: build it with img_size={config.image_size}"
            )
        self.encoder = encoder
        self.decoder_embed = nn.Linear(encoder.embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder = DecoderBlocks(config.decoder, depth, width, heads)
        if config.frame_embed:
            self.frame_embed = nn.Parameter(torch.zeros(2, 1, 1, encoder.embed_dim))  # of the past, of the future
        self.decoder_norm = nn.LayerNorm(width, eps=EPS)
        self.standardizer: Standardizer | None = None
        self.past_head: nn.Module = nn.Identity()
        if config.target in ("features", "ema"):
            channels = teacher_width or encoder.embed_dim
            self.standardizer = Standardizer(channels, config.teacher_norm, config.teacher_channels)
            if config.past_weight and self.standardizer.width != encoder.embed_dim:
                self.past_head = nn.Linear(encoder.embed_dim, self.standardizer.width)
        self.decoder_pred = nn.Linear(width, self.standardizer.width if self.standardizer else 3 * config.patch_size**2)
        positions = torch.cat([torch.zeros(1, width), sincos_positions(self.grid, self.grid, width)])
        self.register_buffer("decoder_positions", positions[None], persistent=False)
        self.register_buffer("mean", torch.tensor(encoder.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(encoder.std).view(3, 1, 1), persistent=False)
        self.decoder_positions: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.terms: dict[str, Tensor] = {}

    def _initialize_decoder(self) -> None:
        """Set Xavier-uniform linear layers, zero biases, a normal mask token (0.02), and a prediction near zero.

        Predictions near zero make the first loss about 1, the variance of the normalized target.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("encoder."):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.normal_(self.decoder_pred.weight, std=0.002)
        if self.config.decoder == "joint":
            nn.init.normal_(self.decoder.frame_embed, std=0.02)
        if self.config.frame_embed:
            nn.init.normal_(self.frame_embed, std=0.02)

    def forward(self, frames: Tensor, masks: Masks, features: Tensor | None = None) -> Tensor:
        """Compute the loss of the masked patches of the futures.

        For pixels it is their mean squared error, normalized as `config.target` says; for features it is 1 - cosine to the
        teacher's, plus `config.past_weight` times that of the past frame's own visible tokens.

        Args:
            frames: [B, 1 + T, 3, S, S], uint8: the past frame, then its futures.
            masks: from a `MaskDrawer`, on the device of the frames.
            features: [B, 1 + T, N, D] of a teacher, where the target is features.
        """
        images = self.normalize(frames)
        futures = rearrange(images[:, 1:], "b t c h w -> (b t) c h w")
        past_tokens, future_tokens = self._encode(images[:, 0], futures, masks)  # [B * T, 1 + K, D] each
        predicted = self._decode(past_tokens, future_tokens, masks)  # [B * T, M, C]
        if self.standardizer is not None:
            if features is None:
                raise ValueError(f"model.target is {self.config.target}; forward needs the teacher's features")
            return self._feature_loss(predicted, past_tokens[:: self.config.futures, 1:], masks, self.standardizer(features))
        target = gather_patches(self.patchify(futures), masks.future.masked)
        if self.config.target == "normalized":
            target = normalize_patches(target)
        return (predicted.float() - target).square().mean()

    def _feature_loss(self, predicted: Tensor, past: Tensor, masks: Masks, target: Tensor) -> Tensor:
        """Compare predicted [B * T, M, C], past tokens [B, K, D], target [B, 1 + T, N, C]: the loss."""
        loss = cosine_loss(predicted, gather_patches(target[:, 1:].flatten(0, 1), masks.future.masked))
        if not self.config.past_weight:
            return loss
        own = cosine_loss(self._as_target(past), gather_patches(target[:, 0], masks.past.visible))
        self.terms = {"future": loss.detach(), "past": own.detach()}
        return loss + self.config.past_weight * own

    def _as_target(self, tokens: Tensor) -> Tensor:
        """Bring the encoder's own tokens [B, K, D] into the space of the target, [B, K, C].

        Tokens as wide as the teacher's are standardized like them; where the target is as many principal components as the
        tokens have channels, the tokens stay as they are; other widths take a linear layer.
        """
        assert self.standardizer is not None
        if isinstance(self.past_head, nn.Identity) and self.standardizer.basis is None:
            standardized: Tensor = self.standardizer(tokens)
            return standardized
        projected: Tensor = self.past_head(tokens)
        return projected

    def normalize(self, frames: Tensor) -> Tensor:
        """Normalize uint8 RGB [..., 3, S, S] as the encoder expects it, float32."""
        return (frames.float() / 255 - self.mean) / self.std

    def patchify(self, images: Tensor) -> Tensor:
        """Cut images [B, 3, S, S] into patches [B, N, 3 * p * p], pixels in the order row, column, channel."""
        p = self.config.patch_size
        return rearrange(images, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Put patches together again: the inverse of `patchify`."""
        p = self.config.patch_size
        return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=self.grid, p=p, q=p, c=3)

    @torch.no_grad()
    def reconstruct(self, frames: Tensor, masks: Masks) -> Reconstruction:
        """Draw what a model of pixels predicts, for eyes and for PSNR.

        Predictions of normalized patches get the mean and deviation of the true patch back, as in MAE's pictures.

        Args:
            frames: [B, 1 + T, 3, S, S], uint8.
            masks: as for `forward`.

        Raises:
            ValueError: the model predicts features, which are no picture.
        """
        if self.standardizer is not None:
            raise ValueError(f"model.target is {self.config.target}; only models of pixels reconstruct pictures")
        images = self.normalize(frames)
        futures = rearrange(images[:, 1:], "b t c h w -> (b t) c h w")
        patches = self.patchify(futures)
        target = gather_patches(patches, masks.future.masked)
        predicted = self._predict(images[:, 0], futures, masks).float()
        if self.config.target == "normalized":
            predicted = predicted * (target.var(-1, keepdim=True) + 1e-6).sqrt() + target.mean(-1, keepdim=True)
        index = masks.future.masked[..., None].expand_as(target)
        filled = patches.scatter(1, index, predicted)
        pictures = [self._picture(patches.scatter(1, index, torch.zeros_like(target))), self._picture(filled)]
        return Reconstruction(*(rearrange(x, "(b t) c h w -> b t c h w", b=len(frames)) for x in pictures))

    def _picture(self, patches: Tensor) -> Tensor:
        return (self.unpatchify(patches) * self.std + self.mean).clamp(0, 1)

    def _predict(self, past: Tensor, futures: Tensor, masks: Masks) -> Tensor:
        """Predict from past [B, 3, S, S] and futures [B * T, 3, S, S] -> predicted masked patches [B * T, M, C]."""
        return self._decode(*self._encode(past, futures, masks), masks)

    def _decode(self, past_tokens: Tensor, future_tokens: Tensor, masks: Masks) -> Tensor:
        """Decode tokens [B * T, 1 + K, D] of past and futures -> predicted masked patches [B * T, M, C]."""
        times = len(future_tokens) // len(masks.past.visible)
        past_tokens, future_tokens = self.decoder_embed(past_tokens), self.decoder_embed(future_tokens)
        if self.config.past_hidden == "mask-tokens":
            past_tokens = self._fill(past_tokens, PatchMask(*(index.repeat_interleave(times, dim=0) for index in masks.past)))
        else:
            past_tokens = past_tokens + self._positions(masks.past.visible.repeat_interleave(times, dim=0))
        tokens = self.decoder(self._fill(future_tokens, masks.future), past_tokens)
        masked = gather_patches(tokens[:, 1:], masks.future.masked)
        predicted: Tensor = self.decoder_pred(self.decoder_norm(masked))
        return predicted

    def _encode(self, past: Tensor, futures: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """Encode the visible patches, CLS token first: the past frames (once for each of their futures) and the futures."""
        times = len(futures) // len(past)
        past_tokens = self._embed(past, masks.past.visible)
        future_tokens = self._embed(futures, masks.future.visible)
        if self.config.encoder == "siamese":
            past_tokens = self.encoder.encode(past_tokens).repeat_interleave(times, dim=0)
            return past_tokens, self.encoder.encode(future_tokens)
        if self.config.frame_embed:
            past_tokens, future_tokens = past_tokens + self.frame_embed[0], future_tokens + self.frame_embed[1]
        # one CLS token, then the visible patches of both frames in one sequence; the CLS goes to either side
        together = torch.cat([past_tokens.repeat_interleave(times, dim=0), future_tokens[:, 1:]], dim=1)
        together = self.encoder.encode(together)
        count = past_tokens.shape[1]
        return together[:, :count], torch.cat([together[:, :1], together[:, count:]], dim=1)

    def _embed(self, images: Tensor, visible: Tensor) -> Tensor:
        """Embed the visible patches, with positions, behind the CLS token: [B, 1 + K, D]."""
        tokens = self.encoder.embed(images)
        return torch.cat([tokens[:, :1], gather_patches(tokens[:, 1:], visible)], dim=1)

    def _positions(self, visible: Tensor) -> Tensor:
        """Gather decoder positions of the CLS token (zeros) and of the visible patches: [B, 1 + K, E]."""
        table = self.decoder_positions.expand(len(visible), -1, -1)
        return torch.cat([table[:, :1], gather_patches(table[:, 1:], visible)], dim=1)

    def _fill(self, tokens: Tensor, mask: PatchMask) -> Tensor:
        """Put encoded tokens [B, 1 + K, E] and mask tokens in the order of the patches, with positions: [B, 1 + N, E]."""
        full = repeat(self.mask_token, "1 1 e -> b n e", b=len(tokens), n=self.grid**2).to(tokens.dtype)
        index = mask.visible[..., None].expand(-1, -1, tokens.shape[-1])
        full = full.scatter(1, index, tokens[:, 1:])
        return torch.cat([tokens[:, :1], full], dim=1) + self.decoder_positions


def normalize_patches(patches: Tensor) -> Tensor:
    """Give every patch [..., 3 * p * p] mean 0 and unbiased variance 1 (eps 1e-6): the target of the loss."""
    mean, var = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (var + 1e-6).sqrt()


def masks_for(model: SiamMAE, batch: int, *, seed: int, micro_batch: int, device: torch.device) -> Masks:
    """Draw the masks of a run's micro-batch by its number, on a device."""
    return mask_drawer(model.config, seed)(batch, micro_batch).to(device)
