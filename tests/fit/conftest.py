"""A run of a few seconds, for the tests to change."""

import pytest

from gpmjax.config import CheckpointConfig, Config, DataConfig, ModelConfig, OptimizerConfig


@pytest.fixture
def config(tokenizer_directory, pairs_file):
    """A run of 12 steps on all eight devices."""
    return Config(
        steps=12,
        export="none",
        model=ModelConfig(
            source="random:tiny",
            tokenizer=str(tokenizer_directory),
            dim=4,
            gate="softmax",
            tau=0.1,
            dtype="float32",
            remat="none",
        ),
        data=DataConfig(train=(str(pairs_file),), eval=(str(pairs_file),), max_length=64, rows=8, packing="single"),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        checkpoint=CheckpointConfig(every=4, keep=2),
    )
