"""From files, open layers and paint to normalised tiles.

``scan`` finds images and says what it had to skip; ``normalisation`` measures intensities once per collection; ``tiles`` and
``labels`` cut training batches that depend on nothing but a seed and a step number; ``synthetic`` draws electron micrographs
with exact labels; ``write`` stores results. Everything here is numpy, except ``augment``, which works on torch batches.
"""
