"""Install PyTorch into the environment of the Python that runs this, without gigabytes of CUDA where no card can use them.

With an NVIDIA card, or on a system whose ordinary wheels are CPU builds anyway, this is plain ``pip install torch``. Otherwise
it takes the newest release that pip can find tagged ``+cpu``, on the indexes and link folders it is configured with or else on
PyTorch's own CPU index. If torch is installed already, whichever build, nothing happens.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST = (2, 8)


def has_nvidia_card() -> bool:
    """Whether the NVIDIA driver is loaded and lists at least one card."""
    if any(Path("/proc/driver/nvidia/gpus").glob("*")):
        return True
    if shutil.which("nvidia-smi") is None:
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU 0" in listing.stdout


def pip(*arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """Run this environment's pip; ``quiet`` captures what it prints."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=quiet, text=True, check=False)


def newest_cpu_build(where: Sequence[str] = ()) -> str | None:
    """Return the newest version tagged ``+cpu`` that pip finds for this Python, or None."""
    listing = pip("index", "versions", "torch", *where, quiet=True).stdout
    for version in re.findall(r"\d[\w.]*\+cpu\b", listing):  # pip lists the newest first
        if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST:
            return str(version)
    return None


def main() -> int:
    """Install what fits this machine and return pip's exit code."""
    if importlib.util.find_spec("torch") is not None:
        print("torch is installed already")
        return 0
    if sys.platform != "linux" or has_nvidia_card():
        return pip("install", f"torch>={OLDEST[0]}.{OLDEST[1]}").returncode
    for where in ((), ("--index-url", CPU_INDEX)):
        version = newest_cpu_build(where)
        if version is not None:
            print(f"No NVIDIA card here: installing the CPU build torch {version}", flush=True)
            return pip("install", f"torch=={version}", *(("--extra-index-url", CPU_INDEX) if where else ())).returncode
    print(
        f"No NVIDIA card was found, and no CPU build of torch for Python {platform.python_version()} on {platform.machine()}\n"
        f"could be reached, neither where pip looks nor at {CPU_INDEX}.\n"
        f"Check the network; or install the torch of your choice with\n    {sys.executable} -m pip install torch\n"
        "(the ordinary build brings several gigabytes of CUDA), then run make again: a torch that is there is kept.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
