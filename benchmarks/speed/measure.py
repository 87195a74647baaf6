"""Measurement of the suites: contenders take turns, all repetitions are kept, and the machine is written with the
figures.

Contenders take turns (A B A B …), so that slow minutes of the machine affect all of them. Ratios are taken within a
turn. In a turn a contender runs twice, and the second run counts. The first run would include page faults for the
memory that the other contender released (4 s of a step of 14 s on a virtual machine) and cold caches.
"""

import datetime
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def in_turns(contenders: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contender's call in each of ``repeats`` turns, after one warm-up call per turn and one before
    all."""
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            run()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Smallest, median and largest, to four digits.

    >>> spread([1.0, 3.0, 2.0])
    {'min': 1.0, 'median': 2.0, 'max': 3.0}
    """
    return {name: float(f"{f(values):.4g}") for name, f in (("min", min), ("median", statistics.median), ("max", max))}


def speedup(ours: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """Ratios of the baseline's time to ours, turn by turn.

    >>> speedup([1.0, 2.0], [3.0, 3.0])
    {'min': 1.5, 'median': 2.25, 'max': 3.0}
    """
    return spread([theirs / mine for mine, theirs in zip(ours, baseline, strict=True)])


def machine() -> dict[str, Any]:
    """The date, machine, versions and thread settings that the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    packages = ("jax", "jaxlib", "torch", "transformers", "numpy")
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "cpu": model,
        "cores_used": len(os.sched_getaffinity(0)),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "threads": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")},
    }


def fresh_process(module: str, *flags: str) -> str:
    """The last line that ``python -m module`` prints in a new process; raises CalledProcessError when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *flags], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return done.stdout.strip().splitlines()[-1]
