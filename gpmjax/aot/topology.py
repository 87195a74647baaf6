"""Accelerators by name: a slice of TPUs ("v5e:4x4"), or a number of GPUs ("h100:8")."""

import math
import re

from gpmjax.chips import GPUS, TPUS, Tpu

USABLE = 0.97
"""The share of a chip's HBM that a program can use.

The runtime keeps some (libtpu leaves 15.75 of a v5e's 16 GiB), and there are gaps between buffers."""


def slice_chips(topology: str) -> tuple[Tpu, int]:
    """The chip of a slice and how many chips the slice has.

    >>> slice_chips("v5p:2x4x4")[1]
    32

    Raises ValueError on a name that is not GENERATION:AxB or GENERATION:AxBxC.
    """
    match = re.fullmatch(r"(\w+):(\d+(?:x\d+){1,2})", topology)
    if match is None or match[1] not in TPUS:
        raise ValueError(
            f"--topology={topology}: must be GENERATION:AxB or GENERATION:AxBxC, such as v5e:4x4 or v5p:2x4x4; "
            f"generations: {', '.join(TPUS)}"
        )
    sizes = [int(size) for size in match[2].split("x")]
    if (len(sizes) == 3) != (match[1] in ("v4", "v5p")) or 0 in sizes:
        raise ValueError(f"--topology={topology}: v4 and v5p slices are AxBxC, v5e and v6e slices AxB, of sizes ≥ 1")
    return TPUS[match[1]], math.prod(sizes)


def gpus(topology: str) -> tuple[float, int] | None:
    """(bytes of memory per GPU, number of GPUs) of a name such as "h100:8"; None for any other name.

    >>> gpus("h100:8"), gpus("v5e:4x4")
    ((80000000000.0, 8), None)
    """
    match = re.fullmatch(r"(\w+):([1-9]\d*)", topology)
    chip = GPUS.get(match[1]) if match else None
    return (chip.hbm, int(match[2])) if match and chip and chip.hbm else None
