"""Measure this machine: steps of our networks against ViT-MAE of about equal parameters. No napari, no Qt."""
