"""The parts of a config that a fit and a policy optimisation share: mesh, hosts, checkpoints; and how their fields are checked."""

import dataclasses
import math
from dataclasses import dataclass

from gpmjax.checks import LARGEST_INT, number
from gpmjax.models.config import require_one_of

CLUSTERS = ("auto", "none", "coordinator", "slurm", "tpu")
LARGEST_SEED = 2**32 - 1
LONGEST = 2**24
"""Tokens of the longest sequence that a config may ask for."""


def at_least(name: str, value, least, most=math.inf) -> None:
    """Refuses ``config.{name}`` below ``least``, above ``most``, or not finite."""
    number(f"config.{name}", value, least=least, most=most)


def positive(name: str, value) -> None:
    """Refuses ``config.{name}`` that is not a positive finite number."""
    number(f"config.{name}", value, above=0)


@dataclass
class MeshConfig:
    """Sizes of the device mesh; at most one may be −1, inferred from the device count."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1

    # Several TPU slices, or hosts of GPUs: as many times ``data`` and ``fsdp`` are these, across the slower network.
    dcn_data: int = 1
    dcn_fsdp: int = 1

    def validate(self) -> None:
        sizes = dataclasses.asdict(self)
        for name, size in sizes.items():
            if size != -1 and size < 1:
                raise ValueError(f"config.mesh.{name}={size!r}: must be at least 1, or -1 to infer it")
            at_least(f"mesh.{name}", size, -1, LARGEST_INT)
        if list(sizes.values()).count(-1) > 1:
            raise ValueError(f"config.mesh={sizes}: at most one size may be -1")


@dataclass
class DistributedConfig:
    """How the hosts of one run find each other; see gpmjax/distributed.py."""

    cluster: str = "auto"
    """"tpu", "slurm", "coordinator", or "none"; "auto": whichever the environment tells of."""
    coordinator_address: str = ""
    """HOST:PORT of process 0, the same on every host; empty: JAX_COORDINATOR_ADDRESS."""
    processes: int = 0
    """How many there are; 0: JAX_NUM_PROCESSES."""
    process: int = -1
    """Index of this one; −1: JAX_PROCESS_ID."""

    def validate(self) -> None:
        require_one_of("config.distributed.cluster", self.cluster, CLUSTERS)
        at_least("distributed.processes", self.processes, 0)
        at_least("distributed.process", self.process, -1)


@dataclass
class CheckpointConfig:
    every: int = 200
    """Steps between checkpoints; 0: only at the end and on SIGTERM or SIGINT."""
    keep: int = 2
    """The newest ones kept, beside the best by ``metric``."""
    metric: str = "accuracy"
    """Of the first eval set: "accuracy" (higher is better) or "nll" (lower is better)."""

    def validate(self) -> None:
        at_least("checkpoint.every", self.every, 0)
        at_least("checkpoint.keep", self.keep, 1)
        require_one_of("config.checkpoint.metric", self.metric, ("accuracy", "nll"))
