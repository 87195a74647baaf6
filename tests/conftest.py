"""Strictness for every test: eight fake devices, no silent promotion of dtypes or ranks."""

import os

# Before jax is imported: XLA reads both once.
os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8").strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "ci",
    deadline=None,  # the first example compiles
    derandomize=True,
    max_examples=25,
    database=None,
)
hypothesis.settings.load_profile("ci")
