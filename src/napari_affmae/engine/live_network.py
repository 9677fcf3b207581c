"""The network of a live session: what it has learned from paint, whether that is saved, and the way back to how it began."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..card import ClassInfo
from ..config import LiveConfig
from ..data.label_images import LabelledImage
from ..data.labelled_tiles import LabelledSampler
from ..model.model_file import save_model
from ..model.readout import Readout
from ..model.segmenter import Segmenter
from .class_heads import with_classes
from .described_paint import Rows
from .fit_readout import fit_readout
from .image_fit import at_scale_of
from .live_fine import FineTraining
from .live_record import LiveRecord


@dataclass
class Attempt:
    """Training of the whole network, which is undone unless it is kept."""

    kept: bool = False


class LiveNetwork:
    """A segmenter whose readout, and now and then all of which, learns from paint.

    Parameters
    ----------
    model
        The segmenter, on its device.
    config
        Settings.
    tile
        Side of the tiles in pixels.
    record
        What the history of the model will tell; it goes on with another class table.
    heads_trained
        Whether the heads were trained on the model's classes: those of a network that was only pretrained are noise.

    Attributes
    ----------
    unfitted
        Whether the readout was fitted to other weights, or less paint, than there are.
    unsaved
        Whether it has learned something since it began or was saved.
    undone
        Whether all that it learned was undone, and it began with nothing: there is nothing to save, nor to go on from.
    """

    def __init__(
        self, model: Segmenter, config: LiveConfig, tile: int, record: LiveRecord | None = None, *, heads_trained: bool
    ) -> None:
        self.model = model
        self.record = record or LiveRecord()
        self.unfitted = self.unsaved = self.undone = False
        self._config = config
        self._tile = tile
        self._heads_trained = heads_trained
        self._fine = FineTraining(model, config, tile)
        self._learned: tuple[LabelledImage, ...] = ()
        self._painted = (0,) * model.num_classes
        self._began_with = model.readout, heads_trained
        self._began_weights: dict[str, Tensor] | None = None
        self._fitted_to: dict[str, Tensor] | None = None

    @property
    def knows(self) -> bool:
        """Whether there is anything to predict with."""
        return self.model.readout is not None or self._heads_trained

    @property
    def learned(self) -> bool:
        """Whether its readout was fitted to paint, and is not put back."""
        return bool(self._learned)

    def with_classes(self, classes: Sequence[ClassInfo]) -> LiveNetwork:
        """Return a network with another class table, which begins with what this one knows about ids in both."""
        self._fine.release()
        model = with_classes(self.model, classes, self._config.seed)
        return LiveNetwork(model, self._config, self._tile, self.record, heads_trained=False)

    def fit(self, rows: Rows) -> Generator[float, None, Readout]:
        """Fit a readout to paint, step by step; yield losses, return the readout, and change nothing."""
        return fit_readout(self.model, rows, self._config.seed, heads_trained=self._heads_trained)

    def learn(self, readout: Readout, examples: Sequence[LabelledImage], painted: Sequence[int]) -> None:
        """Take a readout that was fitted to all paint as it is now: examples, and the painted pixels of each class."""
        self.model.readout = readout
        self._learned, self._painted = tuple(examples), tuple(painted)
        self._fitted_to = None
        self.unfitted, self.unsaved, self.undone = False, True, False

    def sampler(self, examples: Sequence[LabelledImage]) -> LabelledSampler:
        """Return where :meth:`train` draws tiles from, with some of the paint kept back where it can be spared."""
        return self._fine.sampler(examples)

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Let the whole network be trained; unless the attempt is kept, it is what it was before at the end."""
        weights, heads_trained = self._fine.weights(), self._heads_trained
        attempt = Attempt()
        try:
            yield attempt
        finally:
            if not attempt.kept:
                self._fine.restore(weights)
                self._heads_trained = heads_trained
        if attempt.kept:
            self.unfitted = True
            self._fitted_to = weights if self._fitted_to is None else self._fitted_to
            self._began_weights = weights if self._began_weights is None else self._began_weights

    def train(self, sampler: LabelledSampler) -> Iterator[float]:
        """Train the whole network for as long as the settings say, in an attempt; yield the loss of each step."""
        self._heads_trained = True
        return self._fine.run(sampler)

    def put_back(self) -> bool:
        """Be what it was in the beginning; return whether weights below the readout changed by that."""
        self.model.readout, self._heads_trained = self._began_with
        refined = self._began_weights is not None
        if self._began_weights is not None:
            self._fine.restore(self._began_weights)
            self._fine.release()
            self._fine = FineTraining(self.model, self._config, self._tile)
            self._began_weights = None
        self._fitted_to = None
        self.record = LiveRecord()
        self._learned, self._painted = (), (0,) * self.model.num_classes
        self.unfitted, self.unsaved, self.undone = True, self.knows, not self.knows
        return refined

    def save(self, path: Path | str) -> Path:
        """Write the model; after a refinement whose readout is still to be fitted, with the weights that there were before."""
        described = self.record.describe(self._learned, self._config, self._painted)
        card = self.model.card
        self.model.card = at_scale_of(card, [example.record for example in self._learned])
        try:
            with self._as_fitted():
                saved = save_model(self.model, path, **described)
            self.unsaved = False
            return saved
        finally:
            # The history gets one record per session, not one per save.
            self.model.card = card

    @contextmanager
    def _as_fitted(self) -> Iterator[None]:
        """Give the network for a while the weights that its readout was fitted to."""
        if self._fitted_to is None:
            yield
            return
        now = self._fine.weights()
        self._fine.restore(self._fitted_to)
        try:
            yield
        finally:
            self._fine.restore(now)
