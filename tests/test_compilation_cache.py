"""Compiled programs are kept for the next process; and a run compiles nothing anew after its first epoch."""

import json
import os
import subprocess
import sys

import jax
import pytest

from gpmjax.compilation_cache import keep_compiled
from gpmjax.config import Config
from gpmjax.fit.fit import fit

PROGRAM = """
import sys, json
import jax, jax.numpy as jnp
from gpmjax import compilation_cache
compilation_cache.LEAST_SECONDS = 0.0
compilation_cache.keep_compiled(sys.argv[1])
seen = []
jax.monitoring.register_event_listener(lambda event, **_: seen.append(event))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8))).block_until_ready()
print(json.dumps({name: seen.count(f"/jax/compilation_cache/cache_{name}") for name in ("hits", "misses")}))
"""


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # one device, not eight

    def run():
        return json.loads(
            subprocess.run(
                [sys.executable, "-c", PROGRAM, tmp_path / "kept"],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            ).stdout
        )

    first, second = run(), run()
    assert first["hits"] == 0 and first["misses"] > 0
    assert second["hits"] == first["misses"] and second["misses"] == 0


def test_several_cpu_devices_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be off with 8 CPU devices"):
        keep_compiled(tmp_path / "kept")
    assert jax.config.jax_compilation_cache_dir is None


def test_nothing_is_compiled_after_the_first_epoch(tmp_path, pairs_file, tokenizer_directory):
    config = Config(epochs=3, export="none")
    config.model.source, config.model.tokenizer, config.model.dtype = "random:tiny", str(tokenizer_directory), "float32"
    config.data.train, config.data.rows, config.data.max_length, config.data.row_length = (str(pairs_file),), 8, 64, 128
    config.checkpoint.every = 0
    compiled, steps = [], []

    def listen(event, *_, **__):
        return compiled.append(event) if event.endswith("backend_compile_duration") else None

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        counts = []
        config.steps = 0
        for epochs in (1, 3):
            config.epochs, before = epochs, len(compiled)
            summary = fit(config, tmp_path / f"epochs-{epochs}")
            counts.append(len(compiled) - before)
            steps.append(summary["step"])
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert steps[1] > steps[0] and counts[0] > 0
    # The second run compiles its own step, as the first did, and no more for its two further epochs.
    assert counts[1] <= counts[0]
