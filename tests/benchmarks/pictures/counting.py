"""How many operations a segmentation takes, counted on any machine without computing anything."""

from __future__ import annotations

import os
from unittest.mock import patch

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
import torch
from comparison.networks import ALL_SIZES, VitSegmenter
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from napari_affmae.bench.measure import operations
from napari_affmae.bench.vit_mae import VitMAE
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig, PresetName

SIDES = (256, 512, 768, 1024)
CLASSES = 5


def gigaflops(method: str, preset: PresetName) -> dict[int, float]:
    """Return the operations, in 1e9, of segmenting one square image of each side; those of our kernels are counted.

    Nothing is computed: fake tensors have shapes only. Attention is counted as the two matrix products that it is.
    """
    network: nn.Module
    if method == "affmae":
        network = Segmenter(ModelConfig.preset(preset), CLASSES)
    else:
        network = VitSegmenter(VitMAE(ALL_SIZES[preset]), CLASSES)
    network.eval()
    # The operators have formulas for their kernels; this lets a machine without a card choose those, and none ever runs.
    kernels = patch.dict(os.environ, {"AFFMAE_KERNELS": "triton", "TRITON_INTERPRET": "1"})
    with torch.no_grad(), kernels, FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
        return {side: operations(lambda side=side: network(torch.empty(1, 1, side, side))) / 1e9 for side in SIDES}
