"""A damaged or malicious model directory is refused in one line that names the file and the problem."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from gpmjax.hub import load_preference_model, open_source
from gpmjax.hub.config_map import FAMILIES, decoder_config
from gpmjax.hub.param_map import decoder_leaves, required_tensors
from gpmjax.hub.tensors import SafetensorsTensors
from gpmjax.models.spec import PreferenceSpec

HUGE = 10**400
DEEP = "[" * 100_000
NOT_OBJECTS = {
    "empty": b"",
    "cut": b'{"a": 1',
    "list": b"[1]",
    "null": b"null",
    "nested 100,000 times": DEEP.encode(),
    "objects nested 100,000 times": b'{"a":' * 100_000,
    "5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"a": "\xff"}',
    "byte order mark": b"\xef\xbb\xbf{}",
}


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory, families, tokenizer):
    """(directory, config.json) of an intact preference model."""
    directory = tmp_path_factory.mktemp("whole")
    hf = families["qwen2"] | {"gpmjax": PreferenceSpec(dim=4, gate="none").to_dict()}
    rng = np.random.default_rng(0)
    shapes = required_tensors(decoder_leaves(decoder_config(families["qwen2"]))) | {"value_head.weight": (4, 24)}
    save_file({n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}, directory / "model.safetensors")
    tokenizer.save_pretrained(directory)
    return directory, hf


@pytest.fixture
def model(whole_model, tmp_path):
    """The intact model as links, as in a hub's cache, so that a test can replace a file."""
    directory, hf = whole_model
    for file in directory.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").write_text(json.dumps(hf))
    return tmp_path, hf


def complaint(call, *arguments) -> str:
    with pytest.raises(ValueError) as error:
        call(*arguments)
    message = str(error.value)
    assert "\n" not in message and len(message) < 500
    return message


def test_an_intact_model_is_read_through_links(model):
    assert load_preference_model(str(model[0])).spec.dim == 4


def replace(directory, name, data: bytes):
    (directory / name).unlink(missing_ok=True)
    (directory / name).write_bytes(data)


@pytest.mark.parametrize("data", NOT_OBJECTS.values(), ids=NOT_OBJECTS)
def test_a_config_that_is_not_an_object(model, data):
    replace(model[0], "config.json", data)
    assert f"{model[0]}/config.json: not a JSON object (" in complaint(open_source, str(model[0]))


@pytest.mark.parametrize("data", NOT_OBJECTS.values(), ids=NOT_OBJECTS)
def test_an_index_that_is_not_an_object(tmp_path, data):
    replace(tmp_path, "model.safetensors.index.json", data)
    assert f"{tmp_path}/model.safetensors.index.json: not a" in complaint(SafetensorsTensors, tmp_path)


@pytest.mark.parametrize("weight_map", [None, 7, [], {}, "model.safetensors"])
def test_an_index_without_a_weight_map(tmp_path, weight_map):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert 'not an index; must be a JSON object with a non-empty object "weight_map"' in complaint(
        SafetensorsTensors, tmp_path
    )


OUTSIDE = (
    "/etc/one.safetensors",
    "../one.safetensors",
    "a/../../one.safetensors",
    "..\\one.safetensors",
    "C:\\one.safetensors",
)


@pytest.mark.parametrize("file", [*OUTSIDE, None, 7, ["one.safetensors"], "", "passwd", "one\0.safetensors"])
def test_a_shard_outside_the_directory_is_refused(tmp_path, file):
    (tmp_path / "inside").mkdir()
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "one.safetensors")  # the file that ../one.safetensors names
    (tmp_path / "inside" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
    message = complaint(SafetensorsTensors, tmp_path / "inside")
    assert "model.safetensors.index.json: weight_map['a']=" in message
    assert ("a file inside" in message) == (file in OUTSIDE)


def test_a_hub_cache_of_links_is_read(tmp_path):
    """In a hub's cache, snapshots/REVISION/NAME is a link to ../../blobs/HASH."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save_file({"a": np.arange(3, dtype=np.float32)}, blobs / "ab12")
    (blobs / "cd34").write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    (snapshot / "model-00001-of-00001.safetensors").symlink_to("../../blobs/ab12")
    (snapshot / "model.safetensors.index.json").symlink_to("../../blobs/cd34")
    np.testing.assert_array_equal(SafetensorsTensors(snapshot).read("a"), np.arange(3))


def test_the_index_decides_between_two_shards_with_one_tensor(tmp_path):
    for value, file in enumerate(("one.safetensors", "two.safetensors")):
        save_file({"a": np.full(2, value, np.float32), "own" + file: np.zeros(1, np.float32)}, tmp_path / file)
    weight_map = {"a": "one.safetensors", "owntwo.safetensors": "two.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert SafetensorsTensors(tmp_path).read("a").tolist() == [0, 0]


SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
NULLABLE = ("num_key_value_heads", "head_dim", "sliding_window", "max_window_layers", "sliding_window_pattern")
POSITIVE = ("rms_norm_eps", "rope_theta", "query_pre_attn_scalar")
FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window")
BAD = {
    **dict.fromkeys(SIZES, ("32", None, [32], {}, 32.5, True, 0, -32, math.nan, math.inf, HUGE, 10**9 * 5)),
    **dict.fromkeys(NULLABLE, ("32", [32], 32.5, True, -32, math.nan, HUGE)),
    **dict.fromkeys(POSITIVE, ("1e-6", [1.0], {}, True, 0.0, -1.0, math.nan, math.inf, HUGE)),
    **dict.fromkeys(
        ("attn_logit_softcapping", "final_logit_softcapping"), ("1", [1.0], True, 0.0, -1.0, math.nan, math.inf)
    ),
    **dict.fromkeys(FLAGS, ("false", 0, 1, [], 0.0)),
    **dict.fromkeys(("hidden_act", "hidden_activation"), (7, ["silu"], {}, True, "relu9")),
    "layer_types": ("full_attention", 3, {}, [3], [None], ["full_attention"], ["full_attention"] * 10**5),
    "model_type": (None, 7, ["llama"], "bert"),
    "rope_scaling": ("linear", [1], 7, {"rope_type": 3}, {"rope_type": "linear", "factor": "2"},
                     {"rope_type": "linear", "factor": HUGE}, {"rope_type": "linear", "factor": -1.0},
                     {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1.5},
                     {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": True},
                     {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 2.0, "high_freq_factor": 2.0}),
    "gpmjax": (None, 7, [], "gpm", [["dim", 4]]),
}  # fmt: skip
ALSO = {"rope_theta", "rope_scaling", "model_type", "gpmjax"}


@pytest.mark.parametrize("name", BAD)
def test_malformed_attributes(model, families, name):
    directory, _ = model
    readers = [family for family in FAMILIES if name in FAMILIES[family] or name in ALSO]
    assert readers
    for family in readers if name not in ALSO else ["qwen2"]:
        for value in BAD[name]:
            config = families[family] | {name: value}
            if name in ("layer_types", "max_window_layers"):
                config |= {"use_sliding_window": True} if family.startswith("qwen") else {}
            (directory / "config.json").write_text(json.dumps(config))
            message = complaint(open_source, str(directory))
            word = "rope" if name == "rope_scaling" else name
            assert message.startswith(f"{directory}/config.json: ") and word in message, message


def test_every_attribute_that_is_read_is_tested():
    assert {name for family in FAMILIES.values() for name in family} <= set(BAD)


@pytest.mark.parametrize("name", list(PreferenceSpec().to_dict()))
def test_malformed_declarations(model, name):
    directory, hf = model
    right = hf["gpmjax"][name]
    bad = [None, {}, HUGE, math.nan, math.inf, [[1]], -2, 10**12, True]
    bad += [] if name == "bos_tokens" else [-1]  # -1 means "as the template writes them"
    bad += [7] if isinstance(right, str) else ["7"]
    for value in bad:
        (directory / "config.json").write_text(json.dumps(hf | {"gpmjax": hf["gpmjax"] | {name: value}}))
        message = complaint(load_preference_model, str(directory))
        assert f"{directory}/config.json: gpmjax: {name}" in message, message


@pytest.mark.parametrize("value", ["a", None, [1.0], math.nan, HUGE])
def test_malformed_learned_temperature(model, value):
    directory, hf = model
    (directory / "config.json").write_text(json.dumps(hf | {"gpmjax": hf["gpmjax"] | {"log_tau": value}}))
    assert f"{directory}/config.json: gpmjax.log_tau=" in complaint(load_preference_model, str(directory))


@pytest.mark.parametrize("shape", [(), (4,), (4, 24, 1), (0, 24), (3, 24)])
def test_a_head_of_another_shape(model, shape):
    directory, _ = model
    replace(directory, "model.safetensors", b"")
    save_file({"value_head.weight": np.zeros(shape, np.float32)}, directory / "model.safetensors")
    message = complaint(load_preference_model, str(directory))
    assert str(directory) in message and ("two axes" in message or "the head gives" in message)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("data", NOT_OBJECTS.values(), ids=NOT_OBJECTS)
def test_malformed_tokenizer_files(model, name, data):
    directory, _ = model
    replace(directory, name, data)
    try:
        open_source(str(directory)).tokenizer()  # transformers can do without some of these files
    except ValueError as error:
        message = str(error)
        assert message.startswith(f"{directory}: the tokenizer cannot be read (") and "\n" not in message
