"""The decoder's blocks, by which tokens of the future frame look at those of the past frame.

The paper names three kinds and does not describe their inside. Here every block is pre-norm with LayerNorm eps 1e-6, an MLP
of ratio 4 with GELU and no dropout, and keys and values have a norm of their own.

Letters: B pairs, Q query tokens (future), S source tokens (past), D channels, A heads.
"""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

DecoderKind = Literal["cross-self", "cross", "joint"]

EPS = 1e-6


class Attention(nn.Module):
    """Multi-head attention of queries to sources through torch's fused kernels."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, sources: Tensor) -> Tensor:
        """Mix sources [B, S, D] into queries [B, Q, D] -> [B, Q, D]."""
        query = rearrange(self.query(queries), "b n (a d) -> b a n d", a=self.heads)
        key, value = rearrange(self.key_value(sources), "b n (two a d) -> two b a n d", two=2, a=self.heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj(rearrange(mixed, "b a n d -> b n (a d)"))
        return projected


class Mlp(nn.Sequential):
    """Two linear layers with a GELU between, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class CrossSelfBlock(nn.Module):
    """A block of cross-attention to the past, self-attention and MLP, in the order of the original Transformer decoder."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width, eps=EPS)
        self.norm_source = nn.LayerNorm(width, eps=EPS)
        self.cross = Attention(width, heads)
        self.norm_self = nn.LayerNorm(width, eps=EPS)
        self.self = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width)

    def forward(self, tokens: Tensor, sources: Tensor) -> Tensor:
        """Update tokens [B, Q, D] from sources [B, S, D] -> [B, Q, D]."""
        tokens = tokens + self.cross(self.norm_query(tokens), self.norm_source(sources))
        normed = self.norm_self(tokens)
        tokens = tokens + self.self(normed, normed)
        mixed: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return mixed


class CrossBlock(nn.Module):
    """A block of cross-attention to the past and MLP: tokens of the future never see each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width, eps=EPS)
        self.norm_source = nn.LayerNorm(width, eps=EPS)
        self.cross = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width)

    def forward(self, tokens: Tensor, sources: Tensor) -> Tensor:
        """Update tokens [B, Q, D] from sources [B, S, D] -> [B, Q, D]."""
        tokens = tokens + self.cross(self.norm_query(tokens), self.norm_source(sources))
        mixed: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return mixed


class JointBlock(nn.Module):
    """A block of self-attention over the tokens of both frames together, and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width, eps=EPS)
        self.self = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Update tokens [B, Q + S, D] -> [B, Q + S, D]."""
        normed = self.norm_self(tokens)
        tokens = tokens + self.self(normed, normed)
        mixed: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return mixed


BLOCKS: dict[DecoderKind, type[nn.Module]] = {"cross-self": CrossSelfBlock, "cross": CrossBlock, "joint": JointBlock}


class DecoderBlocks(nn.Module):
    """A stack of one kind of block, which updates the tokens of the future by those of the past."""

    def __init__(self, kind: DecoderKind, depth: int, width: int, heads: int) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleList([BLOCKS[kind](width, heads) for _ in range(depth)])
        if kind == "joint":  # the same patch of both frames has the same position: this says which frame a token belongs to
            self.frame_embed = nn.Parameter(torch.zeros(2, 1, 1, width))

    def forward(self, future: Tensor, past: Tensor) -> Tensor:
        """Update future [B, Q, D] from past [B, S, D] -> [B, Q, D]."""
        if self.kind == "joint":
            tokens = torch.cat([future + self.frame_embed[1], past + self.frame_embed[0]], dim=1)
            for layer in self.layers:
                tokens = layer(tokens)
            return tokens[:, : future.shape[1]]
        for layer in self.layers:
            future = layer(future, past)
        return future
