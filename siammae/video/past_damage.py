"""Sequences that go on past damaged frames, which are skipped or repeated; all frames keep their numbers."""

import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

from torch import Tensor

from siammae.video.damage import Damage, Lost
from siammae.video.sequence import Frames

OnDamage = Literal["error", "skip", "repeat"]


class PastDamage(Frames):
    """A sequence without its damaged frames, or with the last whole frame in their place; each damage gives a warning.

    Reading by number begins at the first frame, since only reading tells which frames are damaged.

    Args:
        source: the sequence that may be damaged.
        on_damage: "skip" leaves damaged frames out, so that the frames are fewer, and `number` and `name` tell the numbers
            that they have in the source; "repeat" puts the frame before them (at the beginning: after them) in their place.
    """

    def __init__(self, source: Frames, on_damage: OnDamage) -> None:
        self.source, self.on_damage = source, on_damage
        self.label, self.fps, self.folder, self._window = source.label, source.fps, source.folder, source._window
        self.length, self.names = (source.length, source.names) if on_damage == "repeat" else (None, None)
        self._numbers: list[int] = []  # in the source, of the frames that have been read
        self._complete = False

    @property
    def pixel_aspect(self) -> Fraction:
        return self.source.pixel_aspect

    def __len__(self) -> int:
        self._read_up_to(None)
        return len(self._numbers)

    def number(self, index: int) -> int:
        self._read_up_to(index)
        if index < len(self._numbers):
            return self._numbers[index]
        return index - len(self._numbers) + (self._numbers[-1] + 1 if self._numbers else 0)

    def name(self, index: int) -> str:
        number = self.number(index)
        return self.source.name(number) if self.source.names is None or number < len(self.source.names) else f"{number:05d}"

    def backwards(self, stop: int) -> Iterator[Tensor]:
        if self.number(stop) != stop:
            raise ValueError(
                f"{self.label}: damaged frames before frame {self.number(stop)} are skipped, so it is no longer frame "
                f'{self.number(stop)}; to start at a later frame, use on_damage="repeat"'
            )
        return super().backwards(stop)

    def _read_up_to(self, index: int | None) -> None:
        if not self._complete and (index is None or index >= len(self._numbers)):
            for place, _ in enumerate(self._read()):
                if place == index:
                    return

    def _read(self) -> Iterator[Tensor]:
        for place, (number, frame) in enumerate(self._numbered()):
            if place == len(self._numbers):
                self._numbers.append(number)
            yield frame
        self._complete = True

    def _pick(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        if not numbers:
            return
        wanted, place = set(numbers), -1
        for place, frame in enumerate(self._read()):
            if place in wanted:
                yield frame
            if place == numbers[-1]:
                return
        raise self._no_frame(place + 1, numbers[-1])

    def _numbered(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the frames with their numbers in the source."""
        number, reason = 0, ""
        before: Tensor | None = None
        waiting = 0  # damaged frames at the beginning, which the first whole frame stands for
        for item in self.source.past_damage():
            if isinstance(item, Damage):
                reason = item.reason
            elif isinstance(item, Lost):
                self._warn(number, item.count, reason)
                if self.on_damage == "repeat" and before is None:
                    waiting += item.count
                if self.on_damage == "repeat" and before is not None:
                    yield from ((number + place, before.clone()) for place in range(item.count))
                number += item.count
            else:
                for place in range(waiting):
                    yield place, item.clone()
                waiting = 0
                before = item.clone()
                yield number, item
                number += 1

    def _warn(self, number: int, count: int, reason: str) -> None:
        if self._complete or (self._numbers and number < self._numbers[-1]):
            return  # said at the first reading
        if not count:
            message = f"it ends after {number} frames ({reason})"
        else:
            which = f"frame {number} is" if count == 1 else f"frames {number} to {number + count - 1} are"
            message = f"{which} {'skipped' if self.on_damage == 'skip' else 'replaced by a repeated frame'} ({reason})"
        warnings.warn(f"{self.label} is damaged: {message}", stacklevel=2)
