"""Picture files of several pages as sequences of frames: TIFF stacks, animated PNG and WebP."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from siammae.errors import VideoError
from siammae.video.damage import Damage, Lost, attempt
from siammae.video.pictures import as_frame, frame_pages, open_picture
from siammae.video.sequence import REVERSED_WINDOW, Frames


def several_pages(path: Path) -> bool:
    """Tell whether a picture file holds more than one frame; False for a file that cannot be read."""
    try:
        with open_picture(path, str(path)) as picture:
            pages = frame_pages(picture)
            next(pages, None)
            return next(pages, None) is not None
    except (VideoError, FileNotFoundError):
        return False


class Pages(Frames):
    """The pages of a picture file, one decoded at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self.label = path, str(path)
        with open_picture(path, self.label) as picture:
            if picture.format == "WEBP":
                picture.load()  # only then is its duration known
            duration = picture.info.get("duration") or 0  # of the first page, in ms
        self.fps = 1000 / duration if duration > 0 else None
        self._count: int | None = None
        self._window = REVERSED_WINDOW

    def __len__(self) -> int:
        if self._count is None:
            with open_picture(self.path, self.label) as picture:
                self._count = sum(1 for _ in frame_pages(picture))
        return self._count

    def _read(self) -> Iterator[Tensor]:
        with open_picture(self.path, self.label) as picture:
            for number, _ in enumerate(frame_pages(picture)):
                yield self._frame(picture, number)

    def past_damage(self) -> Iterator[Tensor | Damage | Lost]:
        try:
            with open_picture(self.path, self.label) as picture:
                for number, _ in enumerate(frame_pages(picture)):
                    yield from attempt(partial(self._frame, picture, number))
        except VideoError as error:  # the place of the next page is lost
            yield Damage(str(error), error)
            yield Lost(0)

    def _pick(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        if not numbers:
            return
        wanted, number = set(numbers), -1
        with open_picture(self.path, self.label) as picture:
            for number, _ in enumerate(frame_pages(picture)):  # the place of a page is known only from the one before it
                if number in wanted:
                    yield self._frame(picture, number)
                if number == numbers[-1]:
                    return
        raise self._no_frame(number + 1, numbers[-1])

    def _frame(self, picture: Any, number: int) -> Tensor:
        return as_frame(picture, f"{self.label}, frame {self.name(number)}")
