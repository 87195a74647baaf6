"""The real SmolLM2-135M-Instruct gives the same values here and, as an exported directory, in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpmjax.data.chat import ChatFormat
from gpmjax.data.groups import user
from gpmjax.hub import load_decoder, load_preference_model, open_source, save_preference_model
from gpmjax.models.spec import PreferenceSpec
from gpmjax.models.transformer import Decoder, sequence_layout

SPEC = PreferenceSpec(dim=4)
CHAT = [{"role": "user", "content": "What is the capital of France?"}]


def logits(config, decoder, tokens):
    layout = sequence_layout(jnp.array([tokens.shape[1]]), tokens.shape[1])
    model = Decoder(config)
    hidden = model.apply({"params": decoder}, jnp.asarray(tokens), layout)
    return np.asarray(model.apply({"params": decoder}, hidden[0], method="logits"))


def test_exported_model_is_the_same_here_and_in_torch(tmp_path):
    # One test, because reading and writing half a gigabyte takes most of its time.
    source = open_source("smollm2")
    decoder = load_decoder(source)
    rng = np.random.default_rng(0)
    value, gate = (rng.normal(size=(576, outputs)).astype(np.float32) for outputs in (4, 2))
    params = {"decoder": decoder, "heads": {"value": {"kernel": value}, "gate": {"kernel": gate}}}
    save_preference_model(tmp_path / "m", params, source.config, SPEC, source.tokenizer())

    loaded = load_preference_model(str(tmp_path / "m"))
    assert (loaded.config, loaded.spec) == (source.config, SPEC)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]
    assert prompt == source.tokenizer().apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    with torch.no_grad():
        said = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)[0]
        # torch runs in float64, so that only our rounding is measured; in float32 its own error is 6e-5.
        theirs = model.double()(said[None]).logits.numpy()[0]
    assert "Paris" in tokenizer.decode(said[len(prompt) :])
    ours = logits(source.config, decoder, said.numpy()[None].astype(np.int32))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    # Greedy decoding picks the same tokens.
    np.testing.assert_array_equal(ours[len(prompt) - 1 : -1].argmax(-1), said[len(prompt) :])

    # The exported chat template ends where this model is read (SmolLM2's own template ends in a newline).
    prompt, gate, response = ChatFormat(source.tokenizer()).encode(user(CHAT[0]["content"]), "Paris, of course.")
    replied = [*CHAT, {"role": "assistant", "content": "Paris, of course."}]
    assert tokenizer.apply_chat_template(replied, return_dict=False) == prompt + response
    assert len(tokenizer.apply_chat_template(CHAT, return_dict=False)) == gate + 1
