"""The library's own exceptions (VideoError for frames, WeightsError for weights), and the check of whole numbers."""

from numbers import Integral
from typing import Any, overload


class VideoError(ValueError):
    """A video or picture that cannot be read, is damaged, or changes its size on the way."""


class FrameIndexError(VideoError, IndexError):
    """A frame number that a sequence does not have."""


class WeightsError(OSError):
    """Weights that are not there, cannot be read, or do not fit the model."""


@overload
def whole_number(value: None, name: str, expected: str) -> None: ...
@overload
def whole_number(value: Any, name: str, expected: str) -> int: ...
def whole_number(value: Any, name: str, expected: str) -> int | None:
    """Return an argument as a plain int, numpy's integers too, or None as it is.

    Raises:
        ValueError: another type, bool too; the message gives the argument's name and what was expected.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} is {value!r}; expected {expected}")
    return int(value)
