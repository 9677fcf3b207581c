"""The dock: forms and signals around the engine. The only package here that imports Qt and napari.

``state`` decides what is possible, ``jobs`` says what to run, ``job_runner`` runs it in one worker thread, ``layers`` is the
only module that touches ``viewer.layers``; the four ``*_step`` files are forms. Opening the dock does not import torch.
"""
