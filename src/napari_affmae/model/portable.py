"""A segmenter as a file that any PyTorch can run without this package: TorchScript of one tile, raw values to probabilities.

The network's sorts and gathers follow the image, but their shapes follow from the tile's size alone, so that recording one
forward pass records them all. That the record follows other images than the one it was made from is checked each time.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from ..card import Normalisation
from ..errors import AffmaeError
from .segmenter import Segmenter

MOST_DIFFERENCE = 1e-4
"""Largest difference of a probability between the record and the network."""


class PortableSegmenter(nn.Module):
    """Raw intensities ``[B, C, H, W]`` to probabilities ``[B, K, H, W]``: statistics, network and softmax in one."""

    def __init__(self, segmenter: Segmenter, normalisation: Normalisation) -> None:
        super().__init__()
        self.segmenter = segmenter
        for name in ("low", "high", "mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(normalisation, name), dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Segment raw images of any real type."""
        clipped = torch.minimum(torch.maximum(image.float(), self.get_buffer("low")), self.get_buffer("high"))
        normalised = (clipped - self.get_buffer("mean")) / self.get_buffer("std")
        logits: Tensor = self.segmenter(normalised).logits
        return logits.softmax(dim=1)


def to_torchscript(segmenter: Segmenter, normalisation: Normalisation, tile: int) -> bytes:
    """Return a TorchScript file whose ``forward`` maps float32 ``[1, C, tile, tile]`` to ``[1, K, tile, tile]``.

    It runs on whatever device it is loaded to, in single precision.

    Parameters
    ----------
    segmenter
        The network; it is not changed, and must be on the CPU.
    normalisation
        Statistics of the training images.
    tile
        Side of the tile in pixels.

    Raises
    ------
    AffmaeError
        If the record does not do what the network does.
    """
    training = segmenter.training
    portable = PortableSegmenter(segmenter, normalisation).eval()
    tiles = [_noise(normalisation, tile, seed) for seed in range(2)]
    try:
        with torch.no_grad(), _quiet_tracing():
            recorded = torch.jit.trace(portable, tiles[0], check_trace=False)  # type: ignore[no-untyped-call]
            _follow_device(recorded)
            worst = max(float((recorded(image) - portable(image)).abs().max()) for image in tiles)
    finally:
        segmenter.train(training)
    if not worst <= MOST_DIFFERENCE:
        raise AffmaeError(
            f"the exported network differs from this one by {worst:.2g} on other images, so it was not written; "
            "this is a defect of napari-affmae or of this version of PyTorch: please report it"
        )
    file = io.BytesIO()
    with _quiet_tracing():
        torch.jit.save(recorded, file)
    return file.getvalue()


def _noise(normalisation: Normalisation, tile: int, seed: int) -> Tensor:
    """Return a raw tile that uses the whole range, some values beyond it, with structure of several sizes."""
    generator = torch.Generator().manual_seed(seed)
    low, high = (torch.tensor(values).view(1, -1, 1, 1) for values in (normalisation.low, normalisation.high))
    image = torch.zeros(1, len(normalisation.low), tile, tile)
    for cells in (4, 16, tile):
        coarse = torch.rand(1, image.shape[1], min(cells, tile), min(cells, tile), generator=generator)
        image += nn.functional.interpolate(coarse, size=(tile, tile), mode="nearest") / 3
    return low + (image * 1.2 - 0.1) * (high - low)


def _follow_device(recorded: torch.jit.ScriptModule) -> None:
    """Let what the record creates lie where its input lies: a trace remembers the device that it was made on."""
    graph = recorded.graph
    torch._C._jit_pass_inline(graph)
    image = list(graph.inputs())[1]  # the first is the module
    device = graph.create("prim::device", [image], 1)
    device.output().setType(torch._C.DeviceObjType.get())
    graph.prependNode(device)
    for node in graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]
        if node.output().type().kind() == "DeviceObjType":
            node.output().replaceAllUsesWith(device.output())
    torch._C._jit_pass_dce(graph)


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    """Silence what tracing says about sizes, which are fixed here, and about its own age: other programs read nothing newer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is ", category=DeprecationWarning)
        yield
