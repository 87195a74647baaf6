"""Print what this installation has: versions, devices, attention kernels, caches, weights.

    gpmjax doctor

Give its output with a report of a fault.
"""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import jax
from huggingface_hub import constants

from gpmjax.chips import peak_flops
from gpmjax.config.file import config_directory
from gpmjax.hub.smollm2 import smollm2_path
from gpmjax.models.attention.grouped_query import preferred
from gpmjax.version import __version__

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "datasets", "numpy")
OPTIONAL = ("libtpu", "jax-cuda13-plugin", "jax-cuda12-plugin", "torch")


def main(_: list[str]) -> None:
    """Prints the facts, one a line."""
    for name, text in facts().items():
        print(f"{name:<24} {text}")


def facts() -> dict[str, str]:
    """What ``gpmjax doctor`` prints, by name."""
    optional = {name: version for name in OPTIONAL if (version := _version(name))}
    devices = jax.devices()
    kind = devices[0].device_kind
    peak = peak_flops(kind)
    return {
        "gpmjax": f"{__version__} in {Path(__file__).parents[1]}",
        "python": f"{platform.python_version()} at {sys.executable}",
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        **{name: _version(name) or "not installed" for name in PACKAGES},
        **optional,
        "devices": f"{len(devices)} × {kind} ({devices[0].platform})",
        "peak FLOP/s of a device": f"{peak:.3g}" if peak else "not known, so no MFU is shown",
        "attention=auto": preferred(),
        "attention=flash": _flash(devices[0].platform),
        "configs by name": str(config_directory() or "none at hand"),
        "Hugging Face cache": f"{constants.HF_HUB_CACHE}, offline: {constants.HF_HUB_OFFLINE}",
        "SmolLM2 weights": _smollm2(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _flash(kind: str) -> str:
    kernels = {"tpu": "Pallas for TPUs", "gpu": "Pallas through Triton, for NVIDIA GPUs"}
    return kernels.get(kind, "plain JAX, block by block")


def _smollm2() -> str:
    try:
        return f"at hand: {smollm2_path()}"
    except FileNotFoundError as error:
        return f"missing: {error}"
