"""TPU generations by their published figures, and slices of them by name ("v5e:4x4").

Source: cloud.google.com/tpu/docs/{v4, v5e, v5p, v6e}, "System architecture", read in November 2026. HBM is given there in
GB and meant in GiB. A chip's interconnect is given in both directions together; it sends at most half of that. The page on
v4 gives none: 6 links of 50 GB/s each way, from Jouppi et al. 2023 (arXiv 2304.01433), section 2.
"""

import dataclasses
import math
import re

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published peaks of one chip."""

    flops: float
    """bfloat16, per second."""
    hbm: int
    """Bytes."""
    hbm_bandwidth: float
    """Bytes per second."""
    link_bandwidth: float
    """Bytes per second that all its links together send."""


CHIPS: dict[str, Chip] = {
    "v4": Chip(275e12, 32 * GIB, 1.2e12, 300e9),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 200e9),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 600e9),
    "v6e": Chip(918e12, 32 * GIB, 1640e9, 400e9),
}

USABLE = 0.97
"""Of a chip's HBM; the runtime keeps some (libtpu allots 15.75 of a v5e's 16 GiB) and buffers leave gaps."""


def slice_chips(topology: str) -> tuple[Chip, int]:
    """The chip of a slice and how many it has.

    >>> slice_chips("v5p:2x4x4")[1]
    32

    Raises ValueError on a name that is not GENERATION:AxB or GENERATION:AxBxC.
    """
    match = re.fullmatch(r"(\w+):(\d+(?:x\d+){1,2})", topology)
    if match is None or match[1] not in CHIPS:
        raise ValueError(
            f"--topology={topology}: must be GENERATION:AxB or GENERATION:AxBxC, such as v5e:4x4 or v5p:2x4x4; "
            f"generations: {', '.join(CHIPS)}"
        )
    sizes = [int(size) for size in match[2].split("x")]
    if (len(sizes) == 3) != (match[1] in ("v4", "v5p")) or 0 in sizes:
        raise ValueError(f"--topology={topology}: v4 and v5p slices are AxBxC, v5e and v6e slices AxB, of sizes ≥ 1")
    return CHIPS[match[1]], math.prod(sizes)
