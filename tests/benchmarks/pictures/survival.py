"""Which classes keep their tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_affmae.engine.inspect import Inspection


def survival(labels: npt.NDArray[np.integer], look: Inspection, num_classes: int) -> npt.NDArray[np.float64]:
    """Return, for each class, its patches and its tokens in each of the four stages, ``[K, 5]``.

    A patch counts for the classes of its pixels in the proportion of their areas, and so does the token in it.
    """
    patch = look.patch_size
    height, width = (size // patch for size in labels.shape)
    whole = labels[: height * patch, : width * patch].reshape(height, patch, width, patch)
    share = np.stack([(whole == place).mean(axis=(1, 3)) for place in range(num_classes)])
    counts = [share.sum(axis=(1, 2))]
    for stage in look.stages:
        row, column = (np.clip(np.floor(stage.positions_rc / patch).astype(int), 0, (height - 1, width - 1))).T
        counts.append(share[:, row, column].sum(axis=1))
    return np.stack(counts, axis=1)
