"""Deformable attention whose samples are interpolated from the nearest tokens."""
