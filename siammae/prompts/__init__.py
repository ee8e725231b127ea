"""A mask from a prompt: a box, clicks, or a rough mask, fitted to one object of one frame."""

from siammae.prompts.segmenter import Segmenter, segment

__all__ = ["Segmenter", "segment"]
