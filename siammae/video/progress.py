"""A progress bar over frames."""

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(frames: Iterable[Any], total: int | None, label: str, progress: bool | None) -> Iterable[Any]:
    """Count frames on standard error, with frames per second and time left; None counts only on a terminal."""
    return tqdm(iter(frames), total=total, desc=label, unit="frame", disable=None if progress is None else not progress)
