"""Published figures of every chip: TPU generations and NVIDIA GPUs.

Source for TPUs: cloud.google.com/tpu/docs/{v4, v5e, v5p, v6e}, "System architecture", read in November 2026. HBM is
  given
there in GB and meant in GiB. A chip's interconnect is given in both directions together; a chip sends at most half of
that. The page on v4 gives none: 6 links of 50 GB/s each way, from Jouppi et al. 2023 (arXiv 2304.01433), section 2.
Source for GPUs: NVIDIA's data sheets (of the larger A100).
"""

import dataclasses
import re

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published peaks of one chip."""

    kind: str
    """Regular expression that jax's ``device_kind`` of this chip matches."""
    flops: float
    """Dense bfloat16 FLOPs per second."""
    hbm: float | None
    """Bytes of memory; None where this package predicts nothing for the chip."""


@dataclasses.dataclass(frozen=True)
class Tpu(Chip):
    """A chip that XLA compiles for without having one."""

    hbm: int
    hbm_bandwidth: float
    """Bytes per second."""
    link_bandwidth: float
    """Bytes per second that all links of the chip together send."""


TPUS: dict[str, Tpu] = {
    "v4": Tpu(r"^TPU v4$", 275e12, 32 * GIB, 1.2e12, 300e9),
    "v5e": Tpu(r"^TPU v5 ?(lite|e)", 197e12, 16 * GIB, 819e9, 200e9),
    "v5p": Tpu(r"^TPU v5p?$", 459e12, 95 * GIB, 2765e9, 600e9),
    "v6e": Tpu(r"^TPU v6 ?(lite|e)", 918e12, 32 * GIB, 1640e9, 400e9),
}
# The first pattern that matches wins.
GPUS: dict[str, Chip] = {
    "a100": Chip(r"A100", 312e12, 80e9),
    "h100_pcie": Chip(r"H100 PCIe", 756e12, None),
    "h100_nvl": Chip(r"H100 NVL", 835e12, None),
    "h100": Chip(r"H100", 989e12, 80e9),
    "h200": Chip(r"H200", 989e12, 141e9),
    "b200": Chip(r"B200", 2250e12, None),
}


def peak_flops(device_kind: str) -> float | None:
    """Peak dense bfloat16 FLOPs per second of a chip by jax's name for it; None for an unknown chip, such as a CPU.

    >>> peak_flops("NVIDIA H100 80GB HBM3") == peak_flops("NVIDIA H200") == 989e12
    True
    >>> peak_flops("TPU v5 lite"), peak_flops("cpu")
    (197000000000000.0, None)
    """
    chips = (TPUS | GPUS).values()
    return next((chip.flops for chip in chips if re.search(chip.kind, device_kind)), None)
