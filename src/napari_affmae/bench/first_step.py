"""``python -m napari_affmae.bench.first_step``: seconds until the first step of a new process is done, as JSON on stdout."""

from __future__ import annotations

import json
import time

import torch

from ..engine.device import resolve_device
from .steps import our_step


def main() -> None:
    """Time the first step of ``small`` at 512², batch 16, from the weights on the device to the loss on the host."""
    device = resolve_device("cuda")
    torch.zeros(1, device=device)
    step = our_step("small", 512, 16, device)
    torch.cuda.synchronize()
    start = time.perf_counter()
    loss = step().item()
    first = time.perf_counter() - start
    print(json.dumps({"seconds": first, "loss": loss}))


if __name__ == "__main__":
    main()
