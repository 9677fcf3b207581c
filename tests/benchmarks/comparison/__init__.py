"""Segmenters trained on the same few labelled images, each with the same time, scored on images that nobody has seen."""
