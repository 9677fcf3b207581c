"""What a plane of a stack is called, ``stack[3]`` or ``stack[0,3]``, and back; a single image goes by its own name."""

from __future__ import annotations

import re

_PLANE = re.compile(r"(.*)\[(\d+(?:,\d+)*)\]")


def plane_name(stack: str, index: tuple[int, ...]) -> str:
    """Return the name of a plane; an image without planes is called as it is."""
    return stack + (f"[{','.join(map(str, index))}]" if index else "")


def split_name(name: str) -> tuple[str, tuple[int, ...]]:
    """Return the stack and the plane that a name may stand for; the name itself and no index if it is of another form."""
    match = _PLANE.fullmatch(name)
    return (match[1], tuple(map(int, match[2].split(",")))) if match else (name, ())
