"""One plane of an array that is read part by part: whatever the order of its axes, always seen as rows, columns, channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class LazyPlane:
    """An image ``[H, W, C]`` inside an array of more axes; only what is asked for is read.

    Attributes
    ----------
    array
        Anything with a shape that is sliced like numpy, such as dask and zarr arrays.
    index
        One entry per axis: a number for an axis that the plane fixes, or ``"y"``, ``"x"``, ``"c"`` for the others. There is one
        ``"y"``, one ``"x"``, and at most one ``"c"``.
    channels
        Channels to keep, or None for all.
    """

    array: Any
    index: tuple[int | str, ...]
    channels: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, channels."""
        sides = dict(zip(self.index, self.array.shape, strict=True))
        channels = int(sides.get("c", 1)) if self.channels is None else len(self.channels)
        return int(sides["y"]), int(sides["x"]), channels

    @property
    def ndim(self) -> int:
        """Three: rows, columns, channels."""
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def __getitem__(self, key: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        """Read ``[rows, columns]`` as ``[h, w, C]``, or ``[rows, columns, channels]``; a number takes its axis away."""
        rows, columns, *rest = (slice(part, part + 1) if isinstance(part, int) else part for part in key)
        parts: dict[int | str, slice] = {"y": rows, "x": columns, "c": slice(None)}
        pixels = np.asarray(self.array[tuple(part if isinstance(part, int) else parts[part] for part in self.index)])
        kept = [part for part in self.index if not isinstance(part, int)]
        pixels = pixels.transpose([kept.index(part) for part in ("y", "x", "c") if part in kept])
        if "c" not in kept:
            pixels = pixels[..., None]
        if self.channels is not None:
            pixels = pixels[..., list(self.channels)]
        if rest:
            pixels = pixels[..., rest[0]]
        return pixels[tuple(0 if isinstance(part, int) else slice(None) for part in key)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Read everything."""
        pixels = self[:, :]
        return pixels if dtype is None else pixels.astype(dtype)

    def with_channels(self, channels: tuple[int, ...]) -> LazyPlane:
        """Return the same plane with some of its channels."""
        before = range(self.shape[2]) if self.channels is None else self.channels
        return replace(self, channels=tuple(before[channel] for channel in channels))
