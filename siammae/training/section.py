"""Section: the base of a configuration's dataclasses, whose choices are checked in Python as in YAML."""

from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints


class Section:
    """A section of a run's configuration.

    Attributes:
        prefix: what stands before the names of its fields in a file and in errors, such as "model.".
    """

    prefix: ClassVar[str] = ""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    def __post_init__(self) -> None:
        """Check the fields that hold one of a few words; ValueError names the words."""
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                raise ValueError(f"{self.prefix}{name} is {value!r}; expected {' or '.join(get_args(hint))}")
