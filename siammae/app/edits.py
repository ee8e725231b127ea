"""The changes that the page may ask for, as plain values checked before they are made."""

from collections.abc import Callable
from typing import Any

from siammae.app.labels import Change
from siammae.app.session import Session

Wish = dict[str, Any]


def apply_edit(session: Session, wish: Wish) -> Change:
    """Make the change that `wish["do"]` names with its other entries as arguments; ValueError for nonsense."""
    name = wish.get("do")
    edit = EDITS.get(name) if isinstance(name, str) else None
    if edit is None:
        raise ValueError(f"there is no change {name!r}; expected one of {', '.join(EDITS)}")
    try:
        return edit(session, wish)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the change {name!r} has missing or wrong entries: {error}") from error


def _int(wish: Wish, name: str) -> int:
    value = wish[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}; expected a whole number")
    return value


def _number(wish: Wish, name: str) -> float:
    value = wish[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {value!r}; expected a number")
    return float(value)


EDITS: dict[str, Callable[[Session, Wish], Change]] = {
    "draw": lambda session, wish: session.draw(
        _int(wish, "frame"), wish["shape"], wish["path"], _int(wish, "object"), _number(wish, "width")
    ),
    "fit": lambda session, wish: session.fit_box(_int(wish, "frame"), wish["path"], _int(wish, "object")),
    "click": lambda session, wish: session.fit_click(
        _int(wish, "frame"), wish["place"], _int(wish, "object"), plus=bool(_int(wish, "plus"))
    ),
    "point": lambda session, wish: session.place_point(_int(wish, "frame"), _int(wish, "number"), wish["place"]),
    "clear": lambda session, wish: session.discard(_int(wish, "frame")),
    "name": lambda session, wish: session.name_object(_int(wish, "object"), str(wish["name"])),
    "remove": lambda session, wish: session.remove_object(_int(wish, "object")),
    "trim": lambda session, wish: session.set_trim(_int(wish, "start"), _int(wish, "stop"), _int(wish, "step")),
    "undo": lambda session, wish: session.undo(),
    "redo": lambda session, wish: session.redo(),
}
