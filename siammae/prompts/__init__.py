"""A mask from a prompt: a box, clicks, or a rough mask, fitted to one object of one frame."""

from siammae.prompts.segmenter import Segmenter, segment
from siammae.prompts.text import read_words

__all__ = ["Segmenter", "read_words", "segment"]
