"""One program on many hosts: who they are, and what they must agree on.

Every host runs the same ``launch`` command and calls ``initialize`` before anything touches a device. From then on
``jax.devices()`` is everyone's, and arrays over a mesh span hosts. Host 0 alone writes what a run leaves behind, checkpoints
aside, which all write together; so the work directory must be one that all hosts see.

    where                        config.distributed
    one machine                  nothing to say
    TPU pod slice or slices      cluster="tpu" (found by itself on GKE; where one logs in to every worker, it must be said)
    Slurm                        found by itself under srun with more than one task
    anything else                coordinator_address="HOST0:PORT", processes, process; or the environment's
                                 JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
"""What jax reads of the environment that srun gives each task."""


def initialize(cluster: str = "auto", coordinator_address: str = "", processes: int = 0, process: int = -1) -> None:
    """Joins the other hosts, when there are any; a second call does nothing. The arguments are ``config.distributed``'s.

    Raises:
      ValueError: a coordinator without a port, or without the number of processes and this one's index; a cluster that the
        environment knows nothing of.
      OSError: the others cannot be reached (jax's own words).
    """
    if jax.distributed.is_initialized():
        return
    arguments = connection(os.environ, cluster, coordinator_address, processes, process)
    if arguments is None:
        return
    # On CPUs two programs in flight can each hold threads that the other's collectives wait for.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(**arguments)
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:300]
        raise OSError(f"config.distributed.cluster={cluster!r}: the hosts could not be joined ({text})") from error


def connection(
    environment: Mapping[str, str],
    cluster: str = "auto",
    coordinator_address: str = "",
    processes: int = 0,
    process: int = -1,
) -> dict[str, Any] | None:
    """Arguments for ``jax.distributed.initialize``, None for a program that is alone.

    >>> connection({})
    >>> connection({"JAX_PROCESS_ID": "1"}, coordinator_address="10.0.0.2:1234", processes=2)
    {'coordinator_address': '10.0.0.2:1234', 'num_processes': 2, 'process_id': 1}
    """
    address = coordinator_address or environment.get("JAX_COORDINATOR_ADDRESS", "")
    asked = cluster != "auto"
    cluster = cluster if asked else _detected(address, environment)
    if cluster == "tpu":
        return {}
    if cluster == "slurm":
        if asked and (lacking := [name for name in SLURM if name not in environment]):
            raise ValueError(
                f"config.distributed.cluster='slurm': {lacking[0]} is not set; start the run with srun, or choose another cluster"
            )
        return {"cluster_detection_method": "slurm", "local_device_ids": _slurm_devices(environment)}
    return _by_address(environment, address, processes, process) if cluster == "coordinator" else None


def _detected(address: str, environment: Mapping[str, str]) -> str:
    if address:
        return "coordinator"
    # A sliced TPU job on GKE names its hosts, or its slices' coordinator.
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") or environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
        return "tpu"
    # SLURM_STEP_* is set by srun alone; in a batch script's own shell there is one process, whatever was reserved.
    return "slurm" if _count(environment, "SLURM_STEP_NUM_TASKS", 1) > 1 else "none"


def _count(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"environment variable {name}={text!r}: must be a whole number") from error


def _slurm_devices(environment: Mapping[str, str]) -> list[int] | None:
    """jax gives every task the one GPU of its own number; a task that has a node to itself takes all of the node's."""
    tasks = _count(environment, "SLURM_STEP_NUM_TASKS", 1)
    alone = tasks == _count(environment, "SLURM_STEP_NUM_NODES", 1)
    gpus = environment.get("SLURM_GPUS_ON_NODE", "")
    return list(range(int(gpus))) if alone and gpus.isdecimal() else None


def _by_address(environment: Mapping[str, str], address: str, processes: int, process: int) -> dict[str, Any]:
    if ":" not in address or not address.rpartition(":")[2].isdecimal():
        raise ValueError(f"config.distributed.coordinator_address={address!r}: must be HOST:PORT of process 0")
    processes = processes or _count(environment, "JAX_NUM_PROCESSES", 0)
    process = process if process >= 0 else _count(environment, "JAX_PROCESS_ID", -1)
    if not 0 <= process < processes:
        raise ValueError(
            f"config.distributed.process={process}: must be in [0, processes={processes}); also read from "
            f"JAX_PROCESS_ID and JAX_NUM_PROCESSES"
        )
    return {"coordinator_address": address, "num_processes": processes, "process_id": process}


def is_first_host() -> bool:
    """Whether this process is the one that writes logs, figures and features."""
    return jax.process_index() == 0


def any_host(mine: bool | np.ndarray) -> bool | np.ndarray | jax.Array:
    """Elementwise "or" of what every host passes: a collective. On several hosts an array that is still to be waited for."""
    if jax.process_count() == 1:
        return mine
    mesh = Mesh(np.asarray(jax.devices()), ("device",))
    votes = jax.make_array_from_process_local_data(
        NamedSharding(mesh, P("device")), np.stack([mine] * jax.local_device_count())
    )
    return _either(mesh)(votes)


@functools.cache
def _either(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda votes: jnp.any(votes, axis=0), out_shardings=NamedSharding(mesh, P()))


def on_every_host(array: jax.Array) -> np.ndarray:
    """All of an array that is spread over hosts; a collective."""
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
