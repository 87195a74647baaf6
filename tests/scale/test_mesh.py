"""Meshes of one and several slices, who holds which rows of a batch, and where every array lives."""

import dataclasses

import jax
import numpy as np
import pytest

from gpmjax.arrays import Comparisons, TokenBatch, TokenLayout
from gpmjax.config import MeshConfig, OptimizerConfig
from gpmjax.models.config import DecoderConfig, LoRA, Runtime
from gpmjax.models.preference_model import PreferenceModel
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import make_mesh, path_name, put_batch, row_share, sharding_for, tree_shardings
from gpmjax.train.optimizer import ALL_BUT_ADAPTERS, make_optimizer, split_params
from gpmjax.train.state import init_state, state_shardings


@dataclasses.dataclass(frozen=True)
class Chip:
    """As much of a device as building a mesh looks at."""

    id: int
    process_index: int
    slice_index: int | None = None
    device_kind: str = "chip"
    platform: str = "cpu"


def chips(count, per_host, per_slice=None):
    return [Chip(n, n // per_host, None if per_slice is None else n // per_slice) for n in range(count)]


def hosts(mesh):
    return np.vectorize(lambda chip: chip.process_index)(mesh.devices)


def test_a_mesh_of_one_slice_infers_one_size():
    assert dict(make_mesh(data=2, tensor=2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    with pytest.raises(ValueError, match=r"'tensor': 3.*must multiply to the 8 devices"):
        make_mesh(tensor=3)


def test_slices_are_outermost_and_everything_else_stays_within_one():
    mesh = make_mesh(fsdp=-1, tensor=2, dcn_data=2, devices=chips(16, per_host=4, per_slice=8))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 4, "tensor": 2}
    slices = np.vectorize(lambda chip: chip.slice_index)(mesh.devices)
    assert (slices == np.array([0, 1]).reshape(2, 1, 1)).all()
    across = make_mesh(data=1, fsdp=8, dcn_fsdp=2, devices=chips(16, per_host=4, per_slice=8))
    assert dict(across.shape) == {"data": 1, "fsdp": 16, "tensor": 1}


def test_hosts_serve_as_slices_where_devices_know_of_none():
    mesh = make_mesh(fsdp=4, dcn_data=2, devices=chips(8, per_host=4))
    assert (hosts(mesh) == np.array([0, 1]).reshape(2, 1, 1)).all()
    with pytest.raises(ValueError, match="dcn_data × dcn_fsdp must be the number of slices, 2"):
        make_mesh(fsdp=2, dcn_data=4, devices=chips(8, per_host=2, per_slice=4))
    with pytest.raises(ValueError, match="must be the number of hosts, 4"):
        make_mesh(fsdp=4, dcn_data=2, devices=chips(8, per_host=2))


def test_mesh_fields_of_a_config_are_checked():
    with pytest.raises(ValueError, match=r"config.mesh.dcn_data=0: must be at least 1"):
        MeshConfig(dcn_data=0).validate()
    with pytest.raises(ValueError, match="at most one size may be -1"):
        MeshConfig(dcn_fsdp=-1).validate()


@pytest.mark.parametrize(
    ("per_host", "sizes", "shares"),
    [
        (4, (2, 4, 1), [(0, 2), (1, 2)]),
        (4, (1, 2, 4), [(0, 2), (1, 2)]),
        (2, (1, 2, 4), [(0, 2), (0, 2), (1, 2), (1, 2)]),  # tensor spans two hosts: they hold the same rows
        (8, (2, 2, 2), [(0, 1)]),
    ],
)
def test_every_host_holds_an_equal_share_of_the_rows(per_host, sizes, shares):
    mesh = jax.sharding.Mesh(np.array(chips(8, per_host)).reshape(sizes), ("data", "fsdp", "tensor"))
    assert [row_share(mesh, host) for host in range(8 // per_host)] == shares


def test_hosts_that_overlap_in_part_are_refused():
    uneven = [Chip(n, min(n // 3, 1)) for n in range(8)]
    mesh = jax.sharding.Mesh(np.array(uneven).reshape(1, 8, 1), ("data", "fsdp", "tensor"))
    with pytest.raises(ValueError, match="shared equally by the 2 processes"):
        row_share(mesh, 0)


def test_a_host_puts_its_rows_where_they_belong():
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    rows = np.arange(16, dtype=np.int32).reshape(8, 2)
    placed = put_batch(mesh, {"rows": rows})["rows"]
    np.testing.assert_array_equal(placed, rows)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 2)}


def test_a_size_that_does_not_divide_is_named():
    path = "decoder/layers/mlp/up/kernel"
    with pytest.raises(ValueError, match=rf"{path} of shape \(2, 6, 8\): dimension 1 .* mesh axis 'fsdp' of size 4"):
        sharding_for(make_mesh(fsdp=4, tensor=2), path, (2, 6, 8))


DECODER = DecoderConfig(vocab_size=256, hidden_size=128, num_layers=2, num_heads=4, mlp_size=256, tie_embeddings=True)
SPEC = PreferenceSpec(kind="gpm", dim=4, gate="softmax", normalise="l2", tau=0.1)


def shapes(lora=None):
    """A model's parameters, never made."""
    model = PreferenceModel(DECODER, SPEC, Runtime(lora=lora))
    return jax.eval_shape(lambda key: model.init(key, one_row())["params"], jax.random.key(0))


def one_row():
    i, f = (lambda *shape: np.zeros(shape, np.int32)), (lambda *shape: np.zeros(shape, np.float32))
    layout = TokenLayout(i(1, 4), i(1, 4), i(1, 4))
    pairs = Comparisons(i(1, 1), i(1, 1), f(1, 1), f(1, 1), f(1, 1), i(1, 1))
    return TokenBatch(i(1, 4), layout, i(1, 2), i(1, 2), np.ones((1, 2), bool), i(1, 4), f(1, 4), pairs)


@pytest.mark.parametrize(
    ("lora", "freeze", "trained"),
    [
        (None, (), "decoder/layers/mlp/up/kernel"),
        (LoRA(4, 8.0, ("q", "down")), (ALL_BUT_ADAPTERS,), "decoder/layers/mlp/down/lora_a"),
        (None, ("^decoder/",), "heads/value/kernel"),
    ],
)
def test_frozen_parameters_are_split_too_and_have_no_optimiser_state(lora, freeze, trained):
    mesh = make_mesh(fsdp=4, tensor=2)
    ours, theirs = split_params(shapes(lora), freeze)
    state = jax.eval_shape(lambda params: make_optimizer(OptimizerConfig(), 10).init(params), ours)
    moments = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)}
    paths = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(ours)}
    assert trained in paths
    assert {path.split("/mu/")[1] for path in moments if "/mu/" in path} == paths
    for tree in (ours, theirs):
        for path, sharding in jax.tree_util.tree_leaves_with_path(tree_shardings(mesh, tree)):
            name = path_name(path)
            if name.startswith("decoder/") and name.endswith(("kernel", "embedding", "lora_a", "lora_b")):
                assert not sharding.is_fully_replicated, name


def bytes_of(state):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def test_smaller_optimiser_states():
    parameters = shapes()

    def size(**fields):
        return bytes_of(jax.eval_shape(make_optimizer(OptimizerConfig(**fields), 10).init, parameters))

    full = bytes_of(parameters)
    assert size() == pytest.approx(2 * full, rel=1e-3)
    assert size(moment_dtype="bfloat16") == pytest.approx(1.5 * full, rel=1e-3)
    assert size(name="adafactor") < 0.05 * full
    with pytest.raises(ValueError, match="moment_dtype='bfloat16': must be 'float32' but with name='adamw'"):
        OptimizerConfig(name="sgd", moment_dtype="bfloat16").validate()


@pytest.mark.parametrize("fields", [{"moment_dtype": "bfloat16"}, {"name": "adafactor"}])
def test_smaller_optimiser_states_live_on_shards_and_train(fields):
    mesh = make_mesh(fsdp=4, tensor=2)
    kernel = jax.device_put(
        np.ones((2, 128, 256), np.float32), sharding_for(mesh, "decoder/layers/mlp/up/kernel", (2, 128, 256))
    )
    params = {"decoder": {"layers": {"mlp": {"up": {"kernel": kernel}}}}}
    optimizer = make_optimizer(OptimizerConfig(warmup_fraction=0.0, **fields), 10)
    state = init_state(params, optimizer, mesh)
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == state_shardings(state, mesh)
    updates, _ = jax.jit(optimizer.update)(params, state.optimizer, state.params)
    (update,) = jax.tree.leaves(updates)
    assert update.dtype == np.float32 and np.isfinite(update).all() and (np.asarray(update) < 0).all()
