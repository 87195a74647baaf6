"""Tokenizers are built from GGUF metadata or a directory, without torch, with a padding token that is not EOS."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2Tokenizer

from gpmjax.hub import load_tokenizer
from gpmjax.hub.tokenizer import gguf_tokenizer, with_own_pad

MESSAGES = [{"role": "user", "content": "What is 1234 + 56?"}, {"role": "assistant", "content": "1290"}]


@pytest.fixture(scope="module")
def smollm2():
    return load_tokenizer("smollm2")


# The vocabulary has no token for bytes F1 and F2 (planes without Unicode characters) and for six control characters.
@given(text=st.text(st.characters(codec="utf-8", max_codepoint=0x3FFFF, exclude_characters="\4\6\x13\x14\x16\x1d")))
def test_round_trip(smollm2, text):
    assert smollm2.decode(smollm2(text).input_ids, skip_special_tokens=False) == text


@given(number=st.integers(0, 10**12))
def test_digits_are_split_one_by_one(smollm2, number):
    assert smollm2.convert_ids_to_tokens(smollm2(str(number)).input_ids) == list(str(number))


def test_special_tokens(smollm2):
    assert smollm2("<|im_end|>").input_ids == [2]
    assert (smollm2.bos_token_id, smollm2.eos_token_id, smollm2.pad_token_id) == (1, 2, 2)
    assert smollm2("text").input_ids[0] != smollm2.bos_token_id
    assert len(smollm2) == 49152


def test_chat_template(smollm2):
    text = smollm2.apply_chat_template(MESSAGES, tokenize=False)
    assert text.endswith("<|im_start|>assistant\n1290<|im_end|>\n")
    assert smollm2.apply_chat_template(MESSAGES)["input_ids"] == smollm2(text).input_ids


def test_saved_and_loaded_is_the_same(smollm2, tmp_path):
    smollm2.save_pretrained(tmp_path)
    text = smollm2.apply_chat_template(MESSAGES, tokenize=False) + " 007  x"
    loaded = load_tokenizer(str(tmp_path))
    assert loaded(text).input_ids == smollm2(text).input_ids
    assert loaded.chat_template == smollm2.chat_template


MERGES = ["Ġ a", "b c", "1 2", "l l"]


def small_metadata(cut, **more):
    alphabet = sorted(Qwen2Tokenizer().backend_tokenizer.pre_tokenizer[1].alphabet())
    tokens = ["<|end|>", "<|begin|>", *alphabet, *(merge.replace(" ", "") for merge in MERGES)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cut,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(tokens) - 2),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
    } | {f"tokenizer.ggml.{key}": value for key, value in more.items()}


@given(text=st.text(st.sampled_from("abc12 \n'slé!\u0301")))
def test_qwens_words_are_those_of_transformers(text):
    metadata = small_metadata("qwen2")
    ours = gguf_tokenizer(metadata, "m.gguf")
    vocabulary = {token: place for place, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    theirs = Qwen2Tokenizer(vocab=vocabulary, merges=[tuple(merge.split()) for merge in MERGES])
    assert ours.convert_ids_to_tokens(ours(text).input_ids) == theirs.tokenize(text)


def test_llama3_begins_with_bos_and_groups_three_digits():
    tokenizer = gguf_tokenizer(small_metadata("llama-bpe"), "m.gguf")
    assert tokenizer.convert_ids_to_tokens(tokenizer("12312").input_ids) == ["<|begin|>", "12", "3", "12"]
    silent = gguf_tokenizer(small_metadata("llama-bpe", add_bos_token=False), "m.gguf")
    assert silent("a").input_ids == tokenizer("a").input_ids[1:]


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        (
            {"tokenizer.ggml.model": "t5"},
            r"m.gguf: tokenizer.ggml.model is 't5'; allowed: 'gpt2', 'llama' \(--tokenizer takes",
        ),
        (
            small_metadata("falcon"),
            r"m.gguf: tokenizer.ggml.pre is 'falcon'; allowed: 'smollm', 'qwen2', 'llama-bpe' \(--tokenizer takes",
        ),
        (small_metadata("qwen2", merges=None), "m.gguf: tokenizer.ggml.merges is missing"),
        (small_metadata("qwen2", token_type=[3]), "token_type has 1 entries; allowed: one for each of the 262 tokens"),
        (small_metadata("qwen2", eos_token_id=999), "eos_token_id is 999; allowed: one of the 262 tokens"),
    ],
)
def test_other_tokenizers_are_refused(metadata, complaint):
    with pytest.raises(ValueError, match=complaint):
        gguf_tokenizer(metadata, "m.gguf")


def test_missing_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer, looked for tokenizer.json, tokenizer.model, vocab.json"):
        load_tokenizer(str(tmp_path))


def test_damaged_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version"')
    with pytest.raises(ValueError, match=r"the tokenizer cannot be read \(.*\)$"):
        load_tokenizer(str(tmp_path))


def test_the_padding_token_is_not_eos(tokenizer, smollm2):
    padded = with_own_pad(tokenizer)
    assert (padded.pad_token, tokenizer.pad_token) == ("<|spare|>", "<|end|>")
    assert with_own_pad(padded) is padded
    assert with_own_pad(smollm2).pad_token == "<|endoftext|>"


def test_no_unused_token_for_padding():
    tokenizer = gguf_tokenizer(small_metadata("smollm"), "m.gguf")
    with pytest.raises(
        ValueError, match=r"tokenizer pads with its EOS token '<\|end\|>', and has no other unused special token"
    ):
        with_own_pad(tokenizer)


def test_torch_is_neither_needed_nor_imported():
    # transformers imports torch where it is installed, so transformers may be imported only when a tokenizer is needed.
    # None in sys.modules makes a module look as if it were not installed.
    code = """
import sys
import gpmjax.hub as hub
source = hub.open_source("smollm2")
source.read("model.norm.weight")
print([name for name in ("torch", "transformers") if name in sys.modules])
sys.modules["torch"] = None
tokenizer = source.tokenizer()
print(tokenizer("12<|im_end|>").input_ids)
print(tokenizer.apply_chat_template([{"role": "user", "content": "12"}])["input_ids"][-2:])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[33, 34, 2]", "[2, 198]"]
