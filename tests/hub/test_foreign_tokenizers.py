"""Tokenizers that do not fit their model are refused, and Python code in a directory is never run."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoTokenizer

from gpmjax.config import BackboneConfig
from gpmjax.hub import fitting, load_preference_model, load_tokenizer, open_source, save_decoder, save_preference_model
from gpmjax.hub.config_map import decoder_config
from gpmjax.hub.param_map import decoder_leaves, required_tensors
from gpmjax.models.spec import PreferenceSpec
from gpmjax.sharding import make_mesh
from gpmjax.train.backbone import open_decoder

SPEC = PreferenceSpec(dim=4, gate="none")


@pytest.fixture
def grown(tokenizer):
    """The tokenizer with added special tokens that no chat contains, the last one for padding: 262 ids."""
    grown = copy.deepcopy(tokenizer)
    grown.add_special_tokens({"additional_special_tokens": ["<|image|>", "<|audio|>"], "pad_token": "<|pad|>"})
    assert len(grown) == 262
    return grown


def write_model(directory, families, tokenizer, rows):
    """Writes a preference model whose embedding has ``rows`` rows."""
    hf = families["llama"] | {"vocab_size": rows}
    shapes = required_tensors(decoder_leaves(decoder_config(hf))) | {"value_head.weight": (4, 24)}
    rng = np.random.default_rng(0)
    save_file({n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(hf | {"gpmjax": SPEC.to_dict()}))
    tokenizer.save_pretrained(directory)
    return str(directory)


OPENERS = {
    "sample, answer": lambda model: open_source(model).tokenizer(),
    "evaluate, serve, scorer": lambda model: load_preference_model(model).tokenizer,
    "fit, improve": lambda model: open_decoder(BackboneConfig(source=model), make_mesh(), 0).tokenizer,
    "a tokenizer named apart": lambda model: (
        open_decoder(BackboneConfig(source=model, tokenizer=model), make_mesh(), 0).tokenizer
    ),
}


@pytest.mark.parametrize("opened", OPENERS.values(), ids=OPENERS)
def test_a_tokenizer_larger_than_the_embedding_is_refused_at_once(tmp_path, families, tokenizer, opened):
    model = write_model(tmp_path, families, tokenizer, rows=250)
    with pytest.raises(
        ValueError, match="its tokenizer has 259 tokens, its embedding 250 rows; '.*' is token 250, so this is"
    ) as error:
        opened(model)
    assert str(error.value).startswith(model) and "\n" not in str(error.value)


@pytest.mark.parametrize("opened", OPENERS.values(), ids=OPENERS)
def test_special_tokens_beyond_the_embedding_are_refused_in_texts(tmp_path, families, grown, opened):
    model = write_model(tmp_path, families, grown, rows=259)
    found = opened(model)
    assert found("a<|end|>").input_ids == grown("a<|end|>").input_ids
    assert found(["a", "b"]).input_ids == grown(["a", "b"]).input_ids and found("").input_ids == []
    for text in ("a<|image|>", ["a", "b <|image|>"]):
        with pytest.raises(ValueError, match=r": '<\|image\|>' is token 260, and its embedding has 259 rows$") as error:
            found(text)
        assert str(error.value).startswith(model)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.add_tokens(["word"]),  # an ordinary token
        lambda t: t.add_special_tokens({"eos_token": "<|over|>"}),
        lambda t: t.add_special_tokens({"bos_token": "<|over|>"}),
        lambda t: (
            t.add_special_tokens({"additional_special_tokens": ["<|over|>"]}),
            setattr(t, "chat_template", "<|over|>{{ x }}"),
        ),
    ],
    ids=["ordinary", "eos", "bos", "template"],
)
def test_tokens_beyond_the_embedding_that_texts_need_are_refused(tokenizer, change):
    grown = copy.deepcopy(tokenizer)
    change(grown)
    with pytest.raises(ValueError, match="m: its tokenizer has 260 tokens, its embedding 259 rows"):
        fitting(grown, 259, "m")


def test_a_tokenizer_that_fits_is_unchanged(tokenizer, grown):
    assert fitting(tokenizer, 259, "m") is tokenizer and fitting(grown, 300, "m") is grown


@pytest.mark.parametrize("form", ["native", "sequence_classification", "causal_lm"])
def test_a_larger_tokenizer_is_exported_as_transformers_does(tmp_path, families, tiny_params, grown, form):
    config = decoder_config(families["llama"] | {"vocab_size": 259})
    found = fitting(grown, 259, "m")
    if form == "causal_lm":
        save_decoder(tmp_path / "m", {"decoder": tiny_params(config)["decoder"]}, config, found)
    else:
        save_preference_model(tmp_path / "m", tiny_params(config, SPEC), config, SPEC, found, form)
    theirs, described = AutoTokenizer.from_pretrained(tmp_path / "m"), AutoConfig.from_pretrained(tmp_path / "m")
    assert len(theirs) == 262 and theirs("a<|image|>").input_ids == grown("a<|image|>").input_ids
    assert described.eos_token_id == grown.eos_token_id
    # A token beyond the embedding cannot be the model's padding token.
    assert described.pad_token_id == (
        grown.convert_tokens_to_ids("<|spare|>") if form == "sequence_classification" else None
    )
    assert load_tokenizer(str(tmp_path / "m"))("a").input_ids == grown("a").input_ids


EVIL = """
from pathlib import Path
Path(__file__).with_name("it_ran").touch()
from transformers import PreTrainedTokenizerFast
class Evil(PreTrainedTokenizerFast):
    pass
"""


@pytest.mark.parametrize("answer", ["y\n" * 9, None], ids=["yes", "closed"])
def test_python_in_a_directory_is_never_run(tmp_path, tokenizer, answer):
    """Neither an answer at a prompt nor a closed input runs it; the tokenizer's config names it, or the model's."""
    auto_map = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"], "AutoConfig": "evil.Evil"}}
    directories = [tmp_path / "own", tmp_path / "model"]
    for directory in directories:
        tokenizer.save_pretrained(directory)
        (directory / "evil.py").write_text(EVIL)
        path = directory / "tokenizer_config.json"
        saved = json.loads(path.read_text())
        if directory.name == "own":
            path.write_text(json.dumps(saved | auto_map | {"tokenizer_class": "Evil"}))
        else:
            path.write_text(json.dumps({name: value for name, value in saved.items() if name != "tokenizer_class"}))
            (directory / "config.json").write_text(json.dumps({"model_type": "evil"} | auto_map))
    code = f"""
from gpmjax.hub import load_tokenizer
for directory in {[str(directory) for directory in directories]}:
    try:
        print(type(load_tokenizer(directory)))
    except ValueError as error:
        print(error)
"""
    typed = {"input": answer} if answer else {"stdin": subprocess.DEVNULL}
    environment = {
        "HF_MODULES_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PATH": "/usr/bin:/bin",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment, **typed
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("it_ran"))
    assert "[y/N]" not in done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 2
