"""The library's own exceptions: VideoError, a ValueError, for frames; WeightsError, an OSError, for weights."""


class VideoError(ValueError):
    """A video or picture that cannot be read, is damaged, or changes its size on the way."""


class FrameIndexError(VideoError, IndexError):
    """A frame number that a sequence does not have."""


class WeightsError(OSError):
    """Weights that are not there, cannot be read, or do not fit the model."""
