"""The `model` section of a run's configuration: encoder, decoder, masks and target."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from siammae.training.decoder import DecoderKind
from siammae.training.masking import MaskDrawer, MaskKind, visible_count
from siammae.training.section import Section


@dataclass(frozen=True)
class ModelConfig(Section):
    """The model that is trained. Sizes left at None follow the encoder's width (`decoder_size`)."""

    prefix: ClassVar[str] = "model."
    architecture: str = "vit_small_patch16_224"  # timm's name of the encoder
    patch_size: int = 16
    depth: int | None = None  # blocks of the encoder; None is the architecture's own number
    image_size: int = 224  # side of the crops in pixels
    encoder: Literal["siamese", "joint"] = "siamese"  # frames apart, with shared weights | all visible patches together
    frame_embed: bool = False  # joint encoder: add a learned vector for each frame to its tokens, as the joint decoder does
    decoder: DecoderKind = "cross-self"
    decoder_depth: int | None = None
    decoder_width: int | None = None
    decoder_heads: int | None = None
    mask: MaskKind = "random"
    past_ratio: float = 0.0  # masked share of the past frame
    past_hidden: Literal["dropped", "mask-tokens"] = "dropped"  # its masked patches among the decoder's keys and values
    future_ratio: float = 0.95  # masked share of every future frame
    # patches with mean 0 and variance 1 (the paper) | as they are | a teacher's features | features of the encoder's average
    target: Literal["normalized", "pixels", "features", "ema"] = "normalized"
    futures: int = 1  # future frames predicted from one past frame; the paper has 1
    teacher: str = ""  # features: the model that gives them, a name or folder for load_model
    teacher_layer: int = -1  # features, ema: -1 is the last block and the final norm, else a block
    teacher_size: int | None = None  # features, ema: side in pixels at which the teacher sees a crop; None: its patches x grid
    # features, ema: subtract the corpus mean | and divide by deviations
    teacher_norm: Literal["mean", "deviation"] = "deviation"
    teacher_channels: int | None = None  # features: principal components that are predicted; None: the features themselves
    past_weight: float = 0.0  # features, ema: weight of the visible past tokens' own loss against the teacher's

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size < 1 or self.patch_size < 1 or self.image_size % self.patch_size:
            raise ValueError(
                f"model.image_size {self.image_size} is no multiple of model.patch_size {self.patch_size}; "
                f"take {max(1, round(self.image_size / max(1, self.patch_size))) * self.patch_size}"
            )
        self._check_target()
        if self.futures < 1:
            raise ValueError(f"model.futures is {self.futures}; expected 1 or more")
        patches = (self.image_size // self.patch_size) ** 2
        if not 0 <= self.past_ratio < 1 or visible_count(patches, self.past_ratio) < 1:
            raise ValueError(
                f"model.past_ratio {self.past_ratio:g} leaves none of the past frame's {patches} patches visible; "
                "expected 0 (all visible, as in the paper) or a share below 1 that leaves one patch"
            )
        if not 0 <= self.future_ratio <= 1 or not 1 <= visible_count(patches, self.future_ratio) < patches:
            raise ValueError(
                f"model.future_ratio {self.future_ratio:g} leaves {visible_count(patches, self.future_ratio)} of "
                f"{patches} patches visible; the loss needs at least one visible and one masked (the paper: 0.95)"
            )
        if self.frame_embed and self.encoder != "joint":
            raise ValueError(
                f"model.frame_embed=true tells the frames of a joint encoder apart; model.encoder is {self.encoder}"
            )
        if self.past_hidden != "dropped" and self.past_ratio == 0:
            raise ValueError(f"model.past_hidden is {self.past_hidden}, but model.past_ratio=0 hides no past patch")
        width, heads = self.decoder_width, self.decoder_heads
        if width is not None and (width < 4 or width % 4 or width % (heads or 1)):
            raise ValueError(f"model.decoder_width {width} must be a multiple of 4 and of model.decoder_heads {heads}")

    def _check_target(self) -> None:
        if (self.target == "features") != bool(self.teacher):
            raise ValueError(
                f"model.teacher is {self.teacher!r} and model.target {self.target}; features need a teacher, and only they do"
            )
        if self.target != "features" and self.teacher_channels is not None:
            raise ValueError("model.teacher_channels are components of a teacher's features; they need model.target=features")
        if self.teacher_channels is not None and self.teacher_channels < 1:
            raise ValueError(f"model.teacher_channels is {self.teacher_channels}; expected 1 or more, or null")
        own = (self.past_weight, self.teacher_size, self.teacher_layer, self.teacher_norm) != (0, None, -1, "deviation")
        if own and self.target in ("normalized", "pixels"):
            raise ValueError(
                f"model.past_weight, teacher_size, teacher_layer and teacher_norm are for model.target=features or ema, "
                f"not {self.target}"
            )
        if not self.past_weight >= 0:
            raise ValueError(f"model.past_weight is {self.past_weight:g}; expected 0 or more")
        if self.teacher_size is not None and self.teacher_size < 1:
            raise ValueError(f"model.teacher_size is {self.teacher_size}; expected pixels, or null")


def mask_drawer(config: ModelConfig, seed: int) -> MaskDrawer:
    """Return the draw of a run's masks."""
    grid = config.image_size // config.patch_size
    return MaskDrawer(config.mask, grid, config.past_ratio, config.future_ratio, config.futures, seed)


def decoder_size(embed_dim: int) -> tuple[int, int, int]:
    """Return the default (depth, width, heads) for an encoder of `embed_dim` channels, narrower than the encoder.

    The paper gives no sizes; a wide decoder does the encoder's work. ViT-Ti 4 x 128, -S 4 x 256, -B 8 x 512, -L 12 x 1024.
    """
    if embed_dim <= 192:
        return 4, 128, 4
    if embed_dim <= 384:
        return 4, 256, 8
    if embed_dim <= 768:
        return 8, 512, 16
    return 12, 1024, 16
