"""Measure every operator: ``python kernels/bench [--out FILE]``. No number is printed while the operators' tests fail.

Each line: medians of the forward pass and of the backward pass, and which share of the limit they reach. The limit is the
larger of two times: the bytes that have to be read and written over the bandwidth of a large copy, and the operations over the
rate of a large half-precision matrix product, both measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import affmae_kernels
import torch
from cases import Case, bytes_moved, cases  # type: ignore[import-not-found]

TESTS = Path(__file__).parents[2] / "tests" / "kernels"
REPEATS = 20


def tests_pass() -> bool:
    """Run the operators' tests on this machine's device; show what they print if they fail."""
    # The interpreter stands in for a card: where there is one, it says nothing about what is measured.
    left_out = ["--ignore", str(TESTS / "test_interpreter.py")] if torch.cuda.is_available() else []
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS), *left_out],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        print(result.stdout[-4000:], result.stderr[-1000:], sep="\n", file=sys.stderr)
    return result.returncode == 0


def milliseconds(run: Callable[[], Any], device: torch.device) -> float:
    """Return the median time of ``run``: replays of a CUDA graph, which leave the launches out, or wall time on the CPU."""
    if device.type == "cpu":
        times = []
        for _ in range(4):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times[1:])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = []
    for _ in range(REPEATS):
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        graph.replay()
        after.record()
        after.synchronize()
        times.append(before.elapsed_time(after))
    return statistics.median(times)


def ceilings(device: torch.device) -> tuple[float, float]:
    """Return the bytes per millisecond of a large copy and the operations per millisecond of a large matrix product."""
    size = 1 << 28 if device.type == "cuda" else 1 << 24
    source, target = torch.zeros(2, size, dtype=torch.uint8, device=device)
    bandwidth = 2 * size / milliseconds(lambda: target.copy_(source), device)
    side = 8192 if device.type == "cuda" else 512
    left, right = torch.randn(2, side, side, device=device).to(torch.bfloat16)
    return bandwidth, 2 * side**3 / milliseconds(lambda: left @ right, device)


def measure(case: Case, batch: int, device: torch.device, bandwidth: float, rate: float) -> dict[str, Any]:
    """Return one line of the table."""
    given = case.draw(batch, device)
    for name in case.learned:
        given[name].requires_grad_()
    with torch.no_grad():
        forward = milliseconds(lambda: case.operator(**given), device)
        output = case.operator(**given)
    moved = bytes_moved(given, output)
    line: dict[str, Any] = {
        "case": case.name,
        "batch": batch,
        "forward_ms": forward,
        "forward_share": max(moved / bandwidth, batch * case.operations / rate) / forward,
    }
    if case.learned:
        weights = torch.randn_like(output)

        def both() -> None:
            torch.autograd.grad(case.operator(**given), [given[name] for name in case.learned], weights)

        # The backward pass reads what the forward pass read and its result's gradient, and writes a gradient per learned input.
        written = sum(given[name].numel() * given[name].element_size() for name in case.learned)
        backward = max(milliseconds(both, device) - forward, 1e-6)
        line["backward_ms"] = backward
        line["backward_share"] = max((moved + written) / bandwidth, 2.5 * batch * case.operations / rate) / backward
    return line


def show(lines: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'case':58} {'batch':>5} {'forward ms':>11} {'of limit':>9} {'backward ms':>12} {'of limit':>9}")
    for line in lines:
        text = f"{line['case']:58} {line['batch']:5d} {line['forward_ms']:11.3f} {line['forward_share']:9.0%}"
        if "backward_ms" in line:
            text += f" {line['backward_ms']:12.3f} {line['backward_share']:9.0%}"
        print(text)


def main() -> int:
    """Run the tests, then the cases."""
    parser = argparse.ArgumentParser(description="Measure every operator; see kernels/README.md")
    parser.add_argument("--out", type=Path, help="write the numbers to this file, too")
    parser.add_argument("--grid", type=int, nargs="+", default=[64, 128], help="sides of the patch grid (512² is 64)")
    wanted = parser.parse_args()
    if not tests_pass():
        print("No numbers: the operators' tests fail on this machine (above).", file=sys.stderr)
        return 1
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    torch.manual_seed(0)
    bandwidth, rate = ceilings(device)
    print(f"{name}, torch {torch.__version__}; {affmae_kernels.describe()}")
    print(f"limits measured here: copy {bandwidth / 1e9:.2f} TB/s, matrix product {rate / 1e9:.0f} TFLOP/s")
    lines = []
    for side in wanted.grid:
        batch = max(1, 16 * 64 * 64 // (side * side)) if device.type == "cuda" else 1
        lines += [measure(case, batch, device, bandwidth, rate) for case in cases(side)]
    show(lines)
    if wanted.out is not None:
        report = {
            "device": name,
            "torch": torch.__version__,
            "bytes_per_ms": bandwidth,
            "operations_per_ms": rate,
            "lines": lines,
        }
        wanted.out.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
