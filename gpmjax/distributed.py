"""One program on many hosts: how they find each other, and how they agree.

Every host runs the same ``launch`` command and calls ``initialize`` before it uses a device. Then ``jax.devices()``
lists the devices of all hosts, and arrays over a mesh span hosts. Only host 0 writes a run's files, except for
checkpoints, which all hosts write together; so all hosts must see the work directory.

    where                        config.distributed
    one machine                  nothing to set
    TPU pod slice or slices      cluster="tpu" (detected on GKE; must be set where one logs in to every worker)
    Slurm                        detected under srun with more than one task
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
"""The environment variables, set by srun for each task, that jax reads."""


def initialize(cluster: str = "auto", coordinator_address: str = "", processes: int = 0, process: int = -1) -> None:
    """Connects to the other hosts, if any. A second call does nothing. The arguments are ``config.distributed``.

    Raises:
      ValueError: a coordinator without a port, or without the number of processes and this process's index; or a
        cluster of which the environment has no variables.
      OSError: the other hosts cannot be reached; the message quotes jax's.
    """
    if jax.distributed.is_initialized():
        return
    arguments = connection(os.environ, cluster, coordinator_address, processes, process)
    if arguments is None:
        return
    # On CPUs two programs that run at once can each hold threads that the other's collectives wait for.
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
    """The arguments for ``jax.distributed.initialize``; None for a program on one host.

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
                f"config.distributed.cluster='slurm': {lacking[0]} is not set; "
                f"start the run with srun, or choose another cluster"
            )
        return {"cluster_detection_method": "slurm", "local_device_ids": _slurm_devices(environment)}
    return _by_address(environment, address, processes, process) if cluster == "coordinator" else None


def _detected(address: str, environment: Mapping[str, str]) -> str:
    if address:
        return "coordinator"
    # GKE sets one of these variables for a TPU job of several hosts: its hosts, or its slices' coordinator.
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") or environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
        return "tpu"
    # Only srun sets SLURM_STEP_*. A batch script's own shell is one process, whatever was reserved.
    return "slurm" if _count(environment, "SLURM_STEP_NUM_TASKS", 1) > 1 else "none"


def _count(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"environment variable {name}={text!r}: must be a whole number") from error


def _slurm_devices(environment: Mapping[str, str]) -> list[int] | None:
    """The GPUs of this task: its whole node's if it is alone there; None for jax's default of one GPU per task."""
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
    """Whether this process writes logs, figures and features."""
    return jax.process_index() == 0


def any_host(mine: bool | np.ndarray) -> bool | np.ndarray | jax.Array:
    """Elementwise "or" over all hosts, a collective; on several hosts a jax.Array that may not be ready yet."""
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
    """The whole of an array that is spread over hosts; a collective."""
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
