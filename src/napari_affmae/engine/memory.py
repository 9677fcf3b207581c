"""Ask for main memory before work begins, not when it runs out."""

from __future__ import annotations

from ..errors import DataError
from .doctor import memory


def require_memory(needed: float, what: str, advice: str) -> None:
    """Refuse work that would not fit into the memory that is available now, as far as the system says.

    Parameters
    ----------
    needed
        Bytes.
    what
        What needs them, as the subject of a sentence.
    advice
        What to do instead, as the end of a sentence.

    Raises
    ------
    DataError
        If there is less.
    """
    available, total = memory()
    limit = total if available is None else available
    if limit is not None and needed > limit:
        raise DataError(f"{what} needs about {needed / 1e9:.1f} GB of memory, but {limit / 1e9:.1f} GB are free: {advice}")
