"""The step compiled ahead of time is the one that a fit runs, and memory from shapes agrees with the compiler's."""

import dataclasses

import jax
import numpy as np
import pytest

from gpmjax.aot.estimate import predict
from gpmjax.aot.program import abstract_arguments, compile_step
from gpmjax.aot.report import advice, report, reports_table, step_flops
from gpmjax.aot.topology import slice_chips
from gpmjax.aot.workload import Workload, decoder_shape, fit_workload, largest_batch_shape, policy_workload
from gpmjax.config import BackboneConfig, Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig
from gpmjax.config.improve import ImproveConfig, PromptsConfig, RolloutConfig
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.presets import PRESETS
from gpmjax.sharding import batch_sharding, make_mesh, tree_shardings
from gpmjax.train.optimizer import frozen_patterns, make_optimizer, split_params
from gpmjax.train.state import init_state

TINY = PRESETS["tiny"]


def config(**model) -> Config:
    return Config(
        model=ModelConfig(source="random:tiny", tokenizer="smollm2", gate="softmax", **model),
        data=DataConfig(train=("builtin:letters",), max_length=32, rows=8, packing="single"),
        mesh=MeshConfig(fsdp=4, tensor=2),
    )


def workload(experiment: Config, **shape) -> Workload:
    return fit_workload(experiment, TINY, largest_batch_shape(experiment, **shape))


@pytest.fixture(scope="module")
def compiled():
    return compile_step(config(), workload(config()), jax.devices())


def test_the_abstract_state_is_a_fits_own():
    experiment = config(lora_rank=2)
    mesh = make_mesh(**dataclasses.asdict(experiment.mesh))
    model = PreferenceModel(TINY, experiment.model.spec(), experiment.model.runtime())
    state, frozen, batch = abstract_arguments(experiment, workload(experiment), mesh)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    drawn = jax.tree.map(
        lambda leaf, place: jax.device_put(np.zeros(leaf.shape, leaf.dtype), place),
        shapes,
        tree_shardings(mesh, shapes),
    )
    trainable, rest = split_params(drawn, frozen_patterns(experiment.model))
    real = init_state(trainable, make_optimizer(experiment.optimizer, 10), mesh)

    def same(a, b):
        return (a.shape, a.dtype) == (b.shape, b.dtype) and a.sharding.is_equivalent_to(b.sharding, a.ndim)

    assert jax.tree.all(jax.tree.map(same, real, state)) and jax.tree.all(jax.tree.map(same, rest, frozen))
    assert batch.tokens.shape == (8, 64) and batch.tokens.sharding == batch_sharding(mesh)


def test_state_from_shapes_is_what_the_compiler_allots(compiled):
    predicted = predict(config(), workload(config()), 8)
    # The compiled program leaves out arguments that nothing reads, such as the chosen tokens' weights.
    assert predicted.state == pytest.approx(compiled.memory.arguments, rel=0.02)
    assert predicted.peak == sum(predicted)


def test_the_state_is_donated(compiled):
    assert compiled.memory.aliased >= 0.95 * compiled.memory.outputs


def test_prediction_shrinks_with_devices_and_lora():
    def on(experiment, devices):
        return predict(experiment, workload(experiment), devices)

    wide = dataclasses.replace(config(), mesh=MeshConfig())
    assert on(wide, 8).peak < on(wide, 4).peak < on(wide, 1).peak
    lora = dataclasses.replace(config(lora_rank=2), mesh=MeshConfig())
    assert on(lora, 8).gradients < on(wide, 8).gradients
    with pytest.raises(ValueError, match="config.model.remat='none': must be 'full'"):
        on(config(remat="none"), 8)


def test_a_report_of_figures(compiled):
    chip, _ = slice_chips("v5e:2x4")
    one = report("v5e:2x4", chip, 8, workload(config()), compiled)
    assert one.fits and one.bound == max(one.bounds.values()) > 0
    assert one.collectives["all-gather"]["times"] >= TINY.num_layers
    # The formula does not count all of the heads' small products.
    assert one.hardware_flops == pytest.approx(one.compiled_flops, rel=0.01)
    assert one.to_dict()["bytes_sent_over_needed"] == one.sent / one.needed.total >= 1
    assert one.to_dict()["memory"]["peak"] == one.memory.peak and reports_table([one], "tiny").row_count == 1
    small = dataclasses.replace(one, hbm=1000)
    assert not small.fits


def test_flops_are_those_of_full_rows():
    model, planned, hardware = step_flops(workload(config()))
    # Recomputation repeats most of the forward pass, and masked pairs are computed too.
    assert model < planned < hardware < 2 * model
    longer, *_ = step_flops(workload(config(), row_length=128))
    assert longer > 2 * model


def test_advice_is_about_this_config():
    large = dataclasses.replace(config(attention="xla", remat="none"), optimizer=OptimizerConfig(name="adamw"))
    text = " ".join(advice(large, workload(large), 8, state_first=False))
    assert all(
        word in text
        for word in ("more chips", "remat=full", "attention=chunked", "lora_rank", "adafactor", "row_length")
    )
    small = dataclasses.replace(config(lora_rank=2, attention="chunked"), optimizer=OptimizerConfig(name="adafactor"))
    text = " ".join(advice(small, workload(small), 8, state_first=True))
    assert not any(word in text for word in ("remat", "attention=", "lora_rank", "adafactor"))


def test_a_policys_step_compiles_too():
    experiment = ImproveConfig(
        batch=8,
        policy=BackboneConfig(source="random:tiny", attention="chunked"),
        prompts=PromptsConfig(max_length=16),
        rollout=RolloutConfig(responses=5, max_new_tokens=8),
        optimizer=OptimizerConfig(name="rmsprop"),
    )
    step = policy_workload(experiment, TINY)
    assert step.slots == 16 + 2 * 8 and step.needed.predicted == 8 * 2 * 8  # the best and the worst of the five
    memory = compile_step(experiment, step, jax.devices()).memory
    assert predict(experiment, step, 8).state == pytest.approx(memory.arguments, rel=0.05)
    model, planned, hardware = step_flops(step)
    assert 0 < model < planned < hardware
    assert "--config.policy.lora_rank=16" in " ".join(advice(experiment, step, 8, state_first=True))


def test_known_models_need_no_hub():
    assert decoder_shape("meta-llama/Llama-3.1-8B-Instruct") == PRESETS["llama31-8b"]
    assert decoder_shape("somewhere/else", "gemma-2b") == PRESETS["gemma-2b"] and decoder_shape("random:tiny") == TINY
    with pytest.raises(ValueError, match="--preset is 'huge'; allowed: 'tiny'"):
        decoder_shape("random:tiny", "huge")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mesh": MeshConfig(fsdp=3)}, "config.mesh=.*8 devices"),
        ({"data": DataConfig(train=("x",), rows=6, max_length=32)}, "config.data.rows=6: must be a multiple of 4"),
        ({"model": ModelConfig(backbone="frozen")}, "config.model.backbone='frozen'"),
    ],
)
def test_settings_that_no_run_could_use_are_refused(change, message):
    changed = dataclasses.replace(config(), **change)
    with pytest.raises(ValueError, match=message):
        compile_step(changed, workload(changed), jax.devices())


@pytest.mark.parametrize("name", ["v5e", "v5e:4x4x4", "v5p:4x4", "v9:4x4", "v5e:0x4", "v5e-16"])
def test_an_unknown_topology_is_refused(name):
    with pytest.raises(ValueError, match=f"--topology={name}: "):
        slice_chips(name)
