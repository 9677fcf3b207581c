"""Measure this machine: steps of our networks against ViT-MAE of about equal parameters. No napari, no Qt."""

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
