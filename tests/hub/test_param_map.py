"""The table of tensors is complete and invertible, allows slices, and is strict about names."""

import numpy as np
import pytest

from gpmjax.hub.param_map import head_leaves, leaves, locate, read_leaf, required_tensors, write_leaf
from gpmjax.models.config import DecoderConfig
from gpmjax.models.spec import PreferenceSpec

CONFIG = DecoderConfig(
    vocab_size=11,
    hidden_size=6,
    num_layers=3,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    mlp_size=5,
    qkv_bias=True,
    qk_norm=True,
    post_norms=True,
)
SPECS = {
    "linear": PreferenceSpec(dim=4),
    "ungated": PreferenceSpec(dim=4, gate="none"),
    "mlp": PreferenceSpec(dim=4, head="mlp", mlp_widths=(5, 4, 3)),
    "reward": PreferenceSpec.bradley_terry(),
}


def arrays(table):
    rng = np.random.default_rng(0)
    return {path: rng.standard_normal(leaf.shape).astype(np.float32) for path, leaf in table.items()}


def published(table, ours):
    return {name: tensor for path, leaf in table.items() for name, tensor in write_leaf(leaf, ours[path])}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_writing_and_reading_are_inverse(spec):
    table = leaves(CONFIG, spec)
    ours = arrays(table)
    tensors = published(table, ours)
    assert {name: tensor.shape for name, tensor in tensors.items()} == required_tensors(table)
    for path, leaf in table.items():
        np.testing.assert_array_equal(read_leaf(leaf, lambda name, index: tensors[name][index]), ours[path])


def test_any_slice_is_read_without_the_rest():
    table = leaves(CONFIG)
    ours = arrays(table)
    tensors = published(table, ours)
    asked = []

    def read(name, index):
        asked.append(tensors[name][index].size)
        return tensors[name][index]

    index = (slice(1, 3), slice(0, 2), slice(4, None))
    path = "layers/attention/q/kernel"
    np.testing.assert_array_equal(read_leaf(table[path], read, index), ours[path][index])
    assert asked == [2 * 4, 2 * 4]
    path = "lm_head/kernel"
    np.testing.assert_array_equal(read_leaf(table[path], read, index[1:]), ours[path][index[1:]])


def test_each_tensor_belongs_to_one_array():
    table = leaves(CONFIG, SPECS["mlp"])
    names = [name for leaf in table.values() for name in leaf.sources]
    assert len(names) == len(set(names))
    assert "prompt_head.net.6.bias" in names and "model.layers.2.pre_feedforward_layernorm.weight" in names


def test_sequence_classifiers_keep_their_head_in_score():
    table = leaves(CONFIG, SPECS["reward"], "sequence_classification")
    assert table["heads/value/kernel"].sources == ("score.weight",)
    assert table["heads/value/kernel"].source_shape == (1, 6)
    assert "decoder/lm_head/kernel" not in table
    with pytest.raises(ValueError, match="'mlp'"):
        head_leaves(SPECS["mlp"], 6, "sequence_classification")


def test_missing_and_unknown_tensors_are_named():
    table = leaves(CONFIG)
    names = list(required_tensors(table))
    assert locate(names, table, CONFIG) == {name: name for name in names}
    with pytest.raises(ValueError, match="missing: lm_head.weight, model.layers.1.mlp.up_proj.weight"):
        gone = {"lm_head.weight", "model.layers.1.mlp.up_proj.weight"}
        locate([name for name in sorted(names) if name not in gone], dict(sorted(table.items(), reverse=True)), CONFIG)
    with pytest.raises(ValueError, match="no parameter uses: model.layers.0.mlp.experts.weight"):
        locate([*names, "model.layers.0.mlp.experts.weight"], table, CONFIG)


def test_a_saved_head_is_never_ignored():
    names = list(required_tensors(leaves(CONFIG, SPECS["linear"])))
    table = leaves(CONFIG, SPECS["ungated"])
    with pytest.raises(ValueError, match="prompt_head.weight"):
        locate(names, table, CONFIG)


def test_a_copy_of_a_tied_lm_head_and_old_buffers_are_ignored():
    tied = DecoderConfig(**(vars(CONFIG) | {"tie_embeddings": True}))
    names = list(required_tensors(leaves(tied)))
    assert "lm_head.weight" not in names
    locate([*names, "lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"], leaves(tied), tied)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_text_model_of_an_image_model_is_found(prefix):
    tied = DecoderConfig(**(vars(CONFIG) | {"tie_embeddings": True}))
    names = list(required_tensors(leaves(tied)))
    stored = [prefix + name.removeprefix("model.") for name in names]
    image = ["vision_tower.encoder.weight", "multi_modal_projector.mm_input_projection_weight"]
    assert locate([*stored, *image], leaves(tied), tied) == dict(zip(names, stored, strict=True))
    with pytest.raises(ValueError, match="vision_tower"):
        locate([*names, *image], leaves(tied), tied)
