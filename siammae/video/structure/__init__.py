"""Containers followed part by part (element, page, tag, chunk, block, box), to see where a file is cut off or broken.

FFmpeg reads on over such places without a word. A container tells by its sizes, its marks of the end, and the numbers of its
pages how far it should reach; a file that says none of these, such as a live recording, is whole wherever it ends.
"""

from siammae.video.structure.parts import CUT, Broken, Structure

__all__ = ["CUT", "Broken", "Structure"]
