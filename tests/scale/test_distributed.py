"""How a program learns that it is not alone, from the config, from the environment, and not at all."""

import jax
import pytest

from gpmjax.config import DistributedConfig
from gpmjax.distributed import any_host, connection, initialize, is_first_host

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "4", "SLURM_GPUS_ON_NODE": "8"}


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({}, {}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"}, {}, None),
        (SLURM, {}, {"cluster_detection_method": "slurm", "local_device_ids": list(range(8))}),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "32"}, {}, {"cluster_detection_method": "slurm", "local_device_ids": None}),
        (SLURM, {"cluster": "none"}, None),
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, {}, {}),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, {}, None),
        ({"MEGASCALE_COORDINATOR_ADDRESS": "slice-0"}, {}, {}),
        ({}, {"cluster": "tpu"}, {}),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"},
            {},
            {"coordinator_address": "a:1", "num_processes": 2, "process_id": 0},
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"},
            {"coordinator_address": "b:2", "processes": 3, "process": 2},
            {"coordinator_address": "b:2", "num_processes": 3, "process_id": 2},
        ),
    ],
)
def test_who_the_others_are(environment, arguments, expected):
    assert connection(environment, **arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cluster": "slurm"}, "config.distributed.cluster='slurm': SLURM_JOB_ID is not set; start the run with srun"),
        ({"coordinator_address": "host"}, "coordinator_address='host': must be HOST:PORT"),
        ({"coordinator_address": "host:port"}, "must be HOST:PORT"),
        ({"cluster": "coordinator"}, "coordinator_address=''"),
        ({"coordinator_address": "host:1"}, r"process=-1: must be in \[0, processes=0\)"),
        ({"coordinator_address": "host:1", "processes": 2, "process": 2}, r"process=2: must be in \[0, processes=2\)"),
    ],
)
def test_half_of_what_is_needed_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        connection({}, **arguments)


@pytest.mark.parametrize("name", ["SLURM_STEP_NUM_TASKS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"])
def test_a_variable_that_is_no_number_is_named(name):
    with pytest.raises(ValueError, match=f"environment variable {name}='many': must be a whole number"):
        connection({name: "many"}, coordinator_address="" if name.startswith("SLURM") else "host:1")


def test_hosts_that_cannot_be_joined_are_one_line(monkeypatch):
    def fails(**_):
        raise RuntimeError("DEADLINE_EXCEEDED:\n  no coordinator")

    monkeypatch.setattr(jax.distributed, "initialize", fails)
    with pytest.raises(
        OSError, match="cluster='tpu': the hosts could not be joined .DEADLINE_EXCEEDED: no coordinator"
    ):
        initialize(cluster="tpu")


def test_config_fields_are_checked():
    with pytest.raises(ValueError, match="config.distributed.cluster is 'mpi'; allowed: 'auto'"):
        DistributedConfig(cluster="mpi").validate()


def test_alone_nobody_is_asked():
    initialize(cluster="none")
    assert is_first_host() and any_host(True) is True and any_host(False) is False
