"""Jobs as generators of events: pretraining, finetuning, segmentation, a look inside, evaluation. No Qt, no napari."""

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
