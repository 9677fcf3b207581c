"""For every test: one thread for small tensors. Several of them only wait for each other, on a busy machine for minutes."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
