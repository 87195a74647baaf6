"""Strictness for every test: eight fake devices, no silent promotion of dtypes or ranks."""

import os

# Before jax is imported: XLA reads them once. Tests compile much and run little, hence the optimisation level.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Two programs in flight on eight fake devices and two cores can each hold the threads that the other's collectives wait for.
jax.config.update("jax_cpu_enable_async_dispatch", False)
hypothesis.settings.register_profile(
    "ci",
    deadline=None,  # the first example compiles
    derandomize=True,
    max_examples=25,
    database=None,
)
hypothesis.settings.load_profile("ci")
