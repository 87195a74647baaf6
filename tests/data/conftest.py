"""Tiny tokenizers that behave like real ones, without files or network."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "<start_of_turn>{{ role }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "<|start|>system<|end|>\n\nToday: {{ date_string }}<|eot|>"
    "{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
DATED = (
    "{{ bos_token }}[{{ strftime_now('%Y-%m-%d') }}] {{ messages[0]['content'] }} ->"
    "{% if messages[1:] %} {{ messages[1]['content'] }}</s>{% endif %}"
)

SPECIAL = {
    "chatml": dict(bos="<|im_start|>", eos="<|im_end|>", more=[], template=CHATML),
    "gemma": dict(bos="<bos>", eos="<eos>", more=["<start_of_turn>", "<end_of_turn>"], template=GEMMA),
    "llama3": dict(bos="<|begin|>", eos="<|eot|>", more=["<|start|>", "<|end|>"], template=LLAMA3),
    "dated": dict(bos="<s>", eos="</s>", more=[], template=DATED),
}


def build_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, one merge of two newlines, and the special tokens of ``kind``.

    Its padding token is EOS, and it adds BOS like Llama's.
    """
    special = SPECIAL[kind]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "ĊĊ"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ċ", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = [special["bos"], special["eos"], *special["more"]]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    bos = special["bos"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=special["eos"], pad_token=special["eos"]
    )
    wrapped.chat_template = special["template"]
    return wrapped


@pytest.fixture(params=sorted(SPECIAL))
def tokenizer(request):
    """A tokenizer of each kind."""
    return build_tokenizer(request.param)


@pytest.fixture
def make_tokenizer():
    """Makes a tokenizer by its kind: chatml, gemma, llama3, dated."""
    return build_tokenizer
