"""Measures how fast this machine is with gpmjax, against baselines, and writes the figures down:

    gpmjax benchmark --suite=step --data=pairs.jsonl.gz [-- --layers=30 --repeats=3 …]
    gpmjax benchmark --suite=score|sample|pipeline [--quick]

Every suite is a program of its own, benchmarks/speed/SUITE.py, whose flags go behind ``--``; here it is given the same
threads for torch and jax: as many as ``--threads``, each on a core of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

from absl import flags

from gpmjax.owner import owned_output

ROOT = Path(__file__).parent.parent.parent
SUITES = ("step", "score", "sample", "pipeline")

SUITE = flags.DEFINE_enum("suite", None, SUITES, "What to measure.", required=True)
THREADS = flags.DEFINE_integer("threads", 2, "Threads, and cores that they are pinned to.", 1)
QUICK = flags.DEFINE_bool("quick", False, "Small sizes: about a minute, to see that it runs.")
DATA = flags.DEFINE_string("data", "", "Pairs, for the suites step and pipeline.")
OUT = flags.DEFINE_string("out", "", "Where the figures go; benchmarks/results/speed_SUITE.json when empty.")


def environment(threads: int) -> dict[str, str]:
    """Read by OpenMP, MKL and XLA when they are loaded, so they are set for a fresh process."""
    return dict(os.environ) | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }


def main(rest: list[str]) -> None:
    """Runs a suite in a process of its own, pinned to the threads asked for."""
    if not (ROOT / "benchmarks" / "speed").is_dir():
        sys.exit("error: benchmarks/speed is not in the installed package; run this from a clone of the sources")
    cores = sorted(os.sched_getaffinity(0))
    if THREADS.value > len(cores):
        sys.exit(f"error: --threads={THREADS.value}: this process may use {len(cores)} cores")
    # XLA makes as many threads as it may use cores; a child inherits them.
    os.sched_setaffinity(0, cores[: THREADS.value])
    command = [sys.executable, "-m", f"benchmarks.speed.{SUITE.value}", *rest[1:]]
    command += [f"--out={Path(OUT.value).absolute()}"] if OUT.value else []
    command += ["--quick"] if QUICK.value else []
    command += [f"--data={Path(DATA.value).absolute()}"] if DATA.value else []
    try:
        with owned_output(OUT.value):
            code = subprocess.run(command, cwd=ROOT, env=environment(THREADS.value), check=False).returncode
    except OSError as error:
        sys.exit(f"error: {error}")
    sys.exit(code)
