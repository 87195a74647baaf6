"""transformers (torch) computes the same values from an exported directory; an export is complete or not written."""

import copy
import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from gpmjax import files
from gpmjax.config.judge import JudgeConfig
from gpmjax.data.groups import Group, Message
from gpmjax.hub import export, load_decoder, load_preference_model, save_decoder, save_preference_model
from gpmjax.hub.config_map import decoder_config
from gpmjax.judges.open import open_judge
from gpmjax.models.config import LoRA, Runtime
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder, sequence_layout, unembedding

BT = PreferenceSpec.bradley_terry()
GPM = PreferenceSpec(dim=4, gate="none", normalise="l2")
HYBRID = PreferenceSpec(kind="hybrid", dim=4, gate="none", normalise="none", tau=1.0, gamma=0.5)
GATED = PreferenceSpec(dim=4, gate="softmax", normalise="l2")
# Two sequences longer than the window. They end in EOS (0) and do not contain the padding token of classifiers (2).
TOKENS = np.array([[1, 7, 80, 11, 200, 45, 3, 120, 0], [1, 5, 5, 90, 31, 17, 222, 66, 0]], np.int32)


def torch_forward(auto_class, directory):
    # transformers reports tensors that a class does not use (here the heads) on its logger, not as a warning.
    model = auto_class.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model, model(torch.from_numpy(TOKENS.astype(np.int64))).logits.numpy()


def test_native_is_the_same_language_model(tmp_path, family, tiny_params, tokenizer, hidden_states):
    config = decoder_config(family)
    params = tiny_params(config, GATED)
    save_preference_model(tmp_path / "m", params, config, GATED, tokenizer)
    model, theirs = torch_forward(AutoModelForCausalLM, tmp_path / "m")
    assert model.config.architectures == [type(model).__name__]
    hidden = hidden_states(config, params["decoder"], TOKENS)
    ours = Decoder(config).apply({"params": params["decoder"]}, hidden, method="logits")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("spec", [BT, GPM, HYBRID], ids=["bt", "gpm", "hybrid"])
def test_classifier_gives_rewards_and_raw_embeddings(tmp_path, family, tiny_params, tokenizer, hidden_states, spec):
    config = decoder_config(family)
    params = tiny_params(config, spec)
    save_preference_model(tmp_path / "m", params, config, spec, tokenizer, "sequence_classification")
    model, theirs = torch_forward(AutoModelForSequenceClassification, tmp_path / "m")
    assert type(model).__name__.endswith("ForSequenceClassification")
    assert model.config.architectures == [type(model).__name__]
    assert model.config.num_labels == spec.outputs
    assert model.config.pad_token_id not in (None, model.config.eos_token_id)
    hidden = hidden_states(config, params["decoder"], TOKENS)
    np.testing.assert_allclose(hidden[:, -1] @ params["heads"]["value"]["kernel"], theirs, atol=1e-4)


def test_classifier_reads_the_last_token_of_padded_batches(tmp_path, config, tiny_params, tokenizer):
    # As with SmolLM2: if padding equals EOS, a classifier finds another last token.
    save_preference_model(tmp_path / "m", tiny_params(config, BT), config, BT, tokenizer, "sequence_classification")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "m")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    texts = ["one<|end|>", "a longer one<|end|>"]
    with torch.no_grad():
        together = model(**theirs(texts, padding=True, return_tensors="pt")).logits
        apart = torch.cat([model(**theirs(text, return_tensors="pt")).logits for text in texts])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert tokenizer.pad_token == tokenizer.eos_token


TEMPLATES = {
    "a newline after EOS": "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    "no EOS": "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content | trim }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
    "EOS": "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
    "today": "{{ strftime_now('%Y-%m-%d') }}{% for m in messages %}\n{{ m.role }}: {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}\nassistant: {% endif %}",
}
GROUP = Group(
    (Message("user", "Why?"), Message("assistant", "So."), Message("user", "How?")), ("Like this.", "No\nidea.")
)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("form", export.FORMS)
def test_other_programs_read_the_same_token_of_the_chat_templates_output(
    tmp_path, config, tiny_params, tokenizer, form, template
):
    # Other programs use the output of `apply_chat_template` unchanged. Classifiers and code for value heads read its
    # last token; the latter read the gate at the last token of the prompt alone.
    config = dataclasses.replace(config, max_positions=256)
    tokenizer = copy.copy(tokenizer)
    tokenizer.chat_template = TEMPLATES[template]
    spec = GATED if form == "native" else dataclasses.replace(GPM, normalise="none")
    save_preference_model(tmp_path / "m", tiny_params(config, spec), config, spec, tokenizer, form)
    (ours,) = open_judge(JudgeConfig(str(tmp_path / "m")))([GROUP])

    theirs = AutoTokenizer.from_pretrained(tmp_path / "m")
    messages = [message._asdict() for message in GROUP.prompt]
    texts = [[*messages, {"role": "assistant", "content": response}] for response in GROUP.responses]
    with torch.no_grad():
        if form == "sequence_classification":
            batch = theirs.apply_chat_template(texts, padding=True, return_dict=True, return_tensors="pt")
            model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
            np.testing.assert_allclose(model(**batch).logits, ours.embedding, atol=1e-4)
            return
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
        heads = load_file(tmp_path / "m" / "model.safetensors")
        ids = [theirs.apply_chat_template(text, return_tensors="pt", return_dict=False) for text in texts]
        states = [model.model(one).last_hidden_state[0] for one in ids]
        gate = len(theirs.apply_chat_template(messages, return_dict=False)) - 1
        embeddings = [
            torch.nn.functional.normalize(state[-1] @ heads["value_head.weight"].T, dim=0) for state in states
        ]
        np.testing.assert_allclose(np.stack(embeddings), ours.embedding, atol=1e-5)
        np.testing.assert_allclose(
            torch.softmax(states[0][gate] @ heads["prompt_head.weight"].T, 0), ours.scale, atol=1e-5
        )


def test_the_own_chat_template_is_saved_beside_and_used_for_policies(tmp_path, config, tiny_params, tokenizer):
    params = tiny_params(config, GPM)
    save_preference_model(tmp_path / "m", params, config, GPM, tokenizer)
    assert (tmp_path / "m" / "original_chat_template.jinja").read_text(encoding="utf-8") == tokenizer.chat_template
    exported = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert isinstance(exported.chat_template, str) and exported.chat_template != tokenizer.chat_template
    save_decoder(tmp_path / "policy", {"decoder": params["decoder"]}, config, exported)
    assert AutoTokenizer.from_pretrained(tmp_path / "policy").chat_template == tokenizer.chat_template
    assert not (tmp_path / "policy" / "original_chat_template.jinja").exists()


def test_lora_is_merged(tmp_path, config, tiny_params, tokenizer):
    lora = LoRA(rank=2, alpha=6.0, targets=("q", "down"))
    adapted = Decoder(config, Runtime(lora=lora))
    layout = sequence_layout(jax.numpy.array([9, 9]), 9)
    shapes = jax.eval_shape(adapted.init, jax.random.key(0), TOKENS, layout)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape, scale=0.3).astype(np.float32), shapes)
    model = {"decoder": params, "heads": tiny_params(config, GPM)["heads"]}
    with pytest.raises(ValueError, match=r"params hold LoRA factors \(decoder/layers/.*/lora_a\); pass lora"):
        save_preference_model(tmp_path / "m", model, config, GPM, tokenizer)
    save_preference_model(tmp_path / "m", model, config, GPM, tokenizer, lora=lora)
    merged = load_preference_model(str(tmp_path / "m")).params["decoder"]
    expected = adapted.apply({"params": params}, TOKENS, layout)
    np.testing.assert_allclose(Decoder(config).apply({"params": merged}, TOKENS, layout), expected, atol=2e-5)


def test_a_decoder_alone_is_a_language_model(tmp_path, family, tiny_params, tokenizer, hidden_states):
    config = decoder_config(family)
    params = {"decoder": tiny_params(config, GATED)["decoder"]}
    save_decoder(tmp_path / "m", params, config, tokenizer)
    _, theirs = torch_forward(AutoModelForCausalLM, tmp_path / "m")
    hidden = hidden_states(config, params["decoder"], TOKENS)
    ours = Decoder(config).apply({"params": params["decoder"]}, hidden, method="logits")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, load_decoder(str(tmp_path / "m")), params["decoder"])
    with pytest.raises(ValueError, match="params hold an unknown heads/"):
        save_decoder(tmp_path / "m", tiny_params(config, GATED), config, tokenizer)


def test_shards_open_in_transformers_and_here(tmp_path, config, tiny_params, tokenizer):
    params = tiny_params(config, GATED)
    save_preference_model(tmp_path / "m", params, config, GATED, tokenizer, shard_bytes=30_000)
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert len(files) > 2 and index["metadata"]["total_size"] == 4 * sum(leaf.size for leaf in jax.tree.leaves(params))
    jax.tree.map(np.testing.assert_array_equal, load_preference_model(str(tmp_path / "m")).params, params)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    np.testing.assert_array_equal(model.lm_head.weight.detach(), unembedding(params["decoder"]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrower_dtypes_round_once(tmp_path, config, tiny_params, tokenizer, dtype):
    params = tiny_params(config, GPM)
    save_preference_model(tmp_path / "m", params, config, GPM, tokenizer, dtype=dtype)
    rounded = jax.tree.map(lambda leaf: leaf.astype(export.DTYPES[dtype]).astype(np.float32), params)
    jax.tree.map(np.testing.assert_array_equal, load_preference_model(str(tmp_path / "m")).params, rounded)


def without(tree, *path):
    copied = dict(tree)
    if len(path) == 1:
        del copied[path[0]]
    else:
        copied[path[0]] = without(copied[path[0]], *path[1:])
    return copied


@pytest.mark.parametrize(
    ("choose", "complaint"),
    [
        (lambda params: (params, "onnx", {}), "form is 'onnx'; allowed: 'native', 'sequence_classification'"),
        (
            lambda params: (params, "native", {"dtype": "int8"}),
            "dtype is 'int8'; allowed: 'float32', 'bfloat16', 'float16'",
        ),
        (lambda params: (without(params, "heads", "value"), "native", {}), "params lack heads/value/kernel"),
        (
            lambda params: (without(params, "decoder", "lm_head"), "native", {}),
            "params hold no lm_head, which form 'native' needs; allowed: 'sequence_classification'",
        ),
        (
            lambda params: (params | {"more": params["heads"]["value"]}, "native", {}),
            "params hold an unknown more/kernel",
        ),
        (
            lambda params: (params | {"heads": {"value": {"kernel": np.zeros((24, 2))}}}, "native", {}),
            r"heads/value/kernel has shape \(24, 2\), the config asks for \(24, 4\)",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_writing(
    tmp_path, config, tiny_params, tokenizer, choose, complaint
):
    params, form, more = choose(tiny_params(config, GPM))
    with pytest.raises(ValueError, match=complaint):
        save_preference_model(tmp_path / "m", params, config, GPM, tokenizer, form, **more)
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path, families, tiny_params, tokenizer):
    config = decoder_config(families["llama"] | {"vocab_size": 100})
    with pytest.raises(
        ValueError,
        match="its tokenizer has 259 tokens, its embedding 100 rows; .* is token 100, so this is another model's",
    ):
        save_preference_model(tmp_path / "m", tiny_params(config, GPM), config, GPM, tokenizer)


def contents(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_an_earlier_export_is_replaced_completely(tmp_path, config, tiny_params, tokenizer):
    target = tmp_path / "m"
    save_preference_model(target, tiny_params(config, GPM), config, GPM, tokenizer, shard_bytes=30_000)
    save_preference_model(target, tiny_params(config, BT, seed=1), config, BT, tokenizer)
    assert load_preference_model(str(target)).spec == BT
    assert not [name for name in contents(target) if "-of-" in name]
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("step", ["weights", "tokenizer", "rename"])
def test_a_failure_leaves_the_earlier_export_unchanged(tmp_path, config, tiny_params, tokenizer, monkeypatch, step):
    target = tmp_path / "m"
    save_preference_model(target, tiny_params(config, GPM), config, GPM, tokenizer)
    before = contents(target)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    class Unsaveable:
        def __getattr__(self, name):
            return full if name == "save_pretrained" else getattr(tokenizer, name)

        def __len__(self):
            return len(tokenizer)

    if step == "weights":
        monkeypatch.setattr(export, "save_file", full)
    elif step == "rename":
        replace = os.replace
        monkeypatch.setattr(files.os, "replace", lambda a, b: full() if str(a).endswith(".new") else replace(a, b))
    saved = Unsaveable() if step == "tokenizer" else tokenizer
    with pytest.raises(
        OSError, match=r"^/.*m: not written, nothing there was changed \(.*No space left on device\)"
    ) as caught:
        save_preference_model(target, tiny_params(config, BT), config, BT, saved)
    assert "\n" not in str(caught.value)
    assert contents(target) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_disk_that_becomes_full_while_writing(tmp_path):
    # A limit on file size acts like a full disk: the write fails half-way, inside the library's code.
    code = f"""
import numpy as np
import resource
import signal
from gpmjax.files import replacing_directory
from gpmjax.hub.export import _write_shards
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with replacing_directory({str(tmp_path / "m")!r}, ()) as fresh:
        _write_shards(fresh, iter([("a", np.zeros(10**6, np.float32))]), {{"model.safetensors": ["a"]}})
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"{tmp_path}/m: not written, nothing there was changed (model.safetensors: " in done.stdout
    assert len(done.stdout.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_a_directory_with_other_files_is_not_replaced(tmp_path, config, tiny_params, tokenizer):
    (tmp_path / "notes.csv").write_text("mine")
    with pytest.raises(
        FileExistsError, match="holds notes.csv, no part of a model; name a new or an exported directory"
    ):
        save_preference_model(tmp_path, tiny_params(config, GPM), config, GPM, tokenizer)
    with pytest.raises(FileExistsError, match="notes.csv: is a file; name a directory"):
        save_preference_model(tmp_path / "notes.csv", tiny_params(config, GPM), config, GPM, tokenizer)
    assert contents(tmp_path) == {"notes.csv": b"mine"}
