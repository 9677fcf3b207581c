"""What most people use today: a random forest on the responses of filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

MOST_PIXELS = 200_000
TREES = 100
LEAST_LEAF = 5
WIDEST = 16.0


class Forest:
    """Intensity, edges and texture at scales from 1 to 16 pixels, and 100 trees.

    Parameters
    ----------
    num_classes
        K.
    seed
        Of the pixels that are drawn, and of the trees.
    balance
        Pixels to learn from are drawn per class in proportion to (its labelled pixels) ** balance, so that rare ones are
        learned.
    correction
        Probabilities are then multiplied by (labelled pixels / drawn pixels) ** correction: 1 restores how often classes are.
        Both defaults were best of three pairs on the validation split of em_vnc_sstem.
    """

    def __init__(self, num_classes: int, seed: int, balance: float = 0.5, correction: float = 0.5) -> None:
        self._classes = num_classes
        self._balance = balance
        self._power = correction
        self._rng = np.random.default_rng(seed)
        self._forest = RandomForestClassifier(TREES, min_samples_leaf=LEAST_LEAF, n_jobs=-1, random_state=seed)
        self._correction = np.ones(num_classes)

    def fit(self, images: Sequence[npt.NDArray[Any]], targets: Sequence[npt.NDArray[np.int64]]) -> None:
        """Learn from images ``[H, W]`` or ``[H, W, C]`` and class indices ``[H, W]``, -1 where nothing is labelled."""
        self.learn([features(image) for image in images], targets)

    def learn(self, responses: Sequence[npt.NDArray[np.float32]], targets: Sequence[npt.NDArray[np.int64]]) -> None:
        """Learn from the filters' responses to images."""
        counts = sum(np.bincount(target[target >= 0], minlength=self._classes) for target in targets)
        share = np.where(counts > 0, counts**self._balance, 0)
        wanted = np.minimum(share / share.sum() * MOST_PIXELS, counts)
        keep = wanted / np.maximum(counts, 1)
        rows, truth = [], []
        for response, target in zip(responses, targets, strict=True):
            drawn = (target >= 0) & (self._rng.random(target.shape) < keep[target])
            rows.append(response[drawn])
            truth.append(target[drawn])
        self._forest.fit(np.concatenate(rows), np.concatenate(truth))
        drawn_counts = np.bincount(np.concatenate(truth), minlength=self._classes)
        self._correction = ((counts / np.maximum(drawn_counts, 1)) ** self._power)[self._forest.classes_]

    def predict(self, image: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return class indices ``[H, W]`` of an image."""
        return self.classify(features(image))

    def classify(self, found: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Return class indices ``[H, W]`` from the filters' responses."""
        probabilities = self._forest.predict_proba(found.reshape(-1, found.shape[-1])) * self._correction
        best: npt.NDArray[np.int64] = self._forest.classes_[probabilities.argmax(-1)].reshape(found.shape[:2])
        return best


def features(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the filters' responses, ``[H, W, F]``."""
    channels = image.ndim - 1 if image.ndim == 3 and image.shape[-1] > 1 else None
    plane = image if channels else image.reshape(image.shape[:2])
    found = multiscale_basic_features(plane, sigma_min=1, sigma_max=WIDEST, channel_axis=-1 if channels else None)
    return np.asarray(found, np.float32)
