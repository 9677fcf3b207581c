"""What all settings have in common: frozen, validated when made, and the same through JSON and back."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ConfigError

PositiveInt = Annotated[int, Field(gt=0)]


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown names, and errors that are :class:`~napari_affmae.errors.ConfigError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ConfigError(_readable(type(self).__name__, error)) from error

    def to_json(self) -> str:
        """Return the settings as JSON text."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what :meth:`to_json` wrote; raise :class:`ConfigError` if it does not fit."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(_readable(cls.__name__, error)) from error

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with some fields changed."""
        return type(self)(**{**dict(self), **changes})


def _readable(name: str, error: ValidationError) -> str:
    """Turn pydantic's report into one line per problem, in words."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        got = problem.get("input")
        shown = f" (got {got!r})" if where and not isinstance(got, dict) else ""
        lines.append(f"{where + ': ' if where else ''}{problem['msg'].removeprefix('Value error, ')}{shown}")
    return f"{name}: " + "; ".join(lines)
