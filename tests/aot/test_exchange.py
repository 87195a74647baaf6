"""The bytes that fsdp must send are those counted by hand for a small model."""

import pytest
from jax.sharding import AbstractMesh

from gpmjax.aot.exchange import needed_exchange
from gpmjax.aot.workload import fit_workload, largest_batch_shape
from gpmjax.config import Config, DataConfig, ModelConfig
from gpmjax.models.presets import PRESETS
from gpmjax.sharding import AXES

TINY = PRESETS["tiny"]  # 2 layers of hidden size 32, MLP 64, four query heads and two key heads of 8
LAYER = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64
HIDDEN = 8 * 64 * 32  # eight rows of 64 slots


def exchange(data, fsdp, tensor, accumulate=1, **model):
    config = Config(
        model=ModelConfig(source="random:tiny", tokenizer="smollm2", **model),
        data=DataConfig(train=("builtin:letters",), max_length=32, rows=8, packing="single"),
    )
    return needed_exchange(
        fit_workload(config, TINY, largest_batch_shape(config)), AbstractMesh((data, fsdp, tensor), AXES), accumulate
    )


def test_weights_are_gathered_twice_and_gradients_scattered_once():
    whole = 2 * 2 * LAYER  # two layers in bfloat16
    assert exchange(1, 8, 1) == pytest.approx((2 * 7 / 8 * whole, 7 / 8 * whole, 2 * 2 * 7 / 8 * HIDDEN / 8))
    assert exchange(1, 8, 1, accumulate=2)[:2] == tuple(2 * part for part in exchange(1, 8, 1)[:2])
    assert exchange(1, 8, 1, dtype="float32") == tuple(2 * part for part in exchange(1, 8, 1))


def test_replicas_sum_their_gradients_shards_and_one_chip_sends_nothing():
    whole, alone = 2 * 2 * LAYER, exchange(1, 4, 1)
    assert exchange(2, 4, 1).gradients == pytest.approx(alone.gradients + 2 * 1 / 2 * whole / 4)
    assert exchange(2, 4, 1).weights == alone.weights and exchange(1, 1, 1).total == 0


def test_split_heads_halve_weights_and_sum_rows():
    assert exchange(1, 4, 2)[:2] == tuple(part / 2 for part in exchange(1, 4, 1)[:2])
    # Each layer has two sums forward, attention's again for remat, and two backward; the embedding has one.
    sums = 2 * (1 + 2 * (2 + 1 + 2)) * HIDDEN / 4
    assert exchange(1, 4, 2).rows == pytest.approx(exchange(1, 4, 1).rows + sums)
    assert exchange(1, 4, 2, remat="none").rows == pytest.approx(exchange(1, 4, 1).rows + sums * 9 / 11)


def test_frozen_weights_have_no_gradients_to_scatter():
    lora = exchange(1, 8, 1, lora_rank=2)
    assert 0 < lora.gradients < 0.2 * exchange(1, 8, 1).gradients and lora.weights > exchange(1, 8, 1).weights
    frozen = exchange(1, 4, 2, freeze=("^decoder/",))
    assert frozen.gradients == 0 and frozen.rows < exchange(1, 4, 2).rows
