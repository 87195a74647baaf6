"""Writes preference models and this package's scores, which read_exports.py compares (`make test-peers`).

    python tests/peers/write_exports.py DIRECTORY

The models are tiny ones of several families, and SmolLM2-135M-Instruct with random heads, each in every form.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from flax.traverse_util import unflatten_dict
from tokenizers.pre_tokenizers import ByteLevel

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.groups import Group, Message
from gpmjax.hub import load_decoder, load_tokenizer, open_source, save_preference_model
from gpmjax.hub.config_map import decoder_config
from gpmjax.hub.param_map import decoder_leaves, head_leaves
from gpmjax.hub.tokenizer import gguf_tokenizer
from gpmjax.judges.open import open_judge
from gpmjax.models.spec import PreferenceSpec

FORMS = {
    "native": PreferenceSpec(dim=4, gate="softmax", normalise="l2"),
    "sequence_classification": PreferenceSpec(dim=4, gate="none", normalise="none"),
    "reward": PreferenceSpec.bradley_terry(),
}
SIZES = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=512, rms_norm_eps=1e-4, rope_theta=3000.0, tie_word_embeddings=False,
)  # fmt: skip
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)
GEMMA = dict(
    head_dim=8,
    tie_word_embeddings=True,
    sliding_window=16,
    query_pre_attn_scalar=12,
    hidden_activation="gelu_pytorch_tanh",
)
FAMILIES = {
    "llama": dict(model_type="llama", rope_scaling=LLAMA3),
    "qwen2": dict(model_type="qwen2", tie_word_embeddings=True),
    "gemma2": GEMMA | dict(model_type="gemma2", attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma3_text": GEMMA
    | dict(
        model_type="gemma3_text", rope_local_base_freq=500.0, layer_types=["sliding_attention", "full_attention"] * 2
    ),
}
GROUPS = [
    Group((Message("user", "What is 12 + 30?"),), ("42", "It is 42,\nof course.", "two  spaces  and\n\nlines ")),
    Group(
        (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "再见 👋🏽 <b>")),
        ("👋", "Good-bye, and thank you."),
    ),
]


def main(directory: Path) -> None:
    """Writes every model in every form under ``directory``."""
    tokenizers = {
        "llama": load_tokenizer("smollm2"),
        "qwen2": byte_level("qwen2"),
        "gemma2": sentence_piece(),
        "gemma3_text": sentence_piece(),
    }
    for family, more in FAMILIES.items():
        config = decoder_config(SIZES | dict(vocab_size=len(tokenizers[family])) | more)
        write(directory, family, config, None, tokenizers[family])
    source = open_source("smollm2")
    write(directory, "smollm2", source.config, load_decoder(source), source.tokenizer())


def byte_level(cut: str):
    """A tokenizer of bytes and a few merges, with Qwen's word pattern and ChatML."""
    merges = ["Ċ Ċ", "Ġ a", "a n", "1 2"]
    tokens = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *sorted(ByteLevel.alphabet()),
        *(merge.replace(" ", "") for merge in merges),
    ]
    return _tokenizer(
        dict(model="gpt2", pre=cut, tokens=tokens, token_type=[3] * 3 + [1] * (len(tokens) - 3), merges=merges),
        dict(eos_token_id=2, padding_token_id=0),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )


def sentence_piece():
    """A tokenizer with a SentencePiece vocabulary that has byte pieces, and with Gemma's turns."""
    special, words = (
        ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
        ["▁", "a", "n", "d", "an", "and", "▁and", "▁▁"],
    )
    tokens = [
        *special,
        "\n",
        "\n\n",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *words,
        *"bcefghiklmoprstuvwyHWIGT?!,.-+0123456789<>",
    ]
    types = [3, 3, 3, 2, 3, 3, 4, 4] + [6] * 256 + [1] * (len(tokens) - 264)
    scores = [0.0] * 264 + [-float(place) for place in range(len(tokens) - 264)]
    return _tokenizer(
        dict(model="llama", tokens=tokens, token_type=types, scores=scores, add_space_prefix=False),
        dict(bos_token_id=2, eos_token_id=1, padding_token_id=0, unknown_token_id=3),
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    )


def _tokenizer(vocabulary: dict, ids: dict, template: str):
    metadata = {f"tokenizer.ggml.{name}": value for name, value in (vocabulary | ids).items()}
    return gguf_tokenizer(metadata | {"tokenizer.chat_template": template}, "made here")


def write(directory: Path, family: str, config, decoder, tokenizer) -> None:
    """Writes one model in every form, each with expected.json."""
    numbers = np.random.default_rng(0)

    def draw(table, scale):
        leaves = {p: numbers.normal(size=leaf.shape, scale=scale).astype(np.float32) for p, leaf in table.items()}
        return unflatten_dict(leaves, sep="/")

    decoder = draw(decoder_leaves(config), 0.3) if decoder is None else decoder
    for form, spec in FORMS.items():
        target = directory / f"{family}-{form}"
        params = {"decoder": decoder, "heads": draw(head_leaves(spec, config.hidden_size), 1.0)}
        saved_as = "native" if form == "native" else "sequence_classification"
        save_preference_model(target, params, config, spec, tokenizer, saved_as)
        judge = open_judge(JudgeConfig(str(target)))
        expected = []
        for group, verdict in zip(GROUPS, judge(GROUPS), strict=True):
            ids = [judge.chat.encode(group.prompt, response) for response in group.responses]
            expected.append(
                {
                    "prompt": [message._asdict() for message in group.prompt],
                    "responses": group.responses,
                    "ids": [prompt + response for prompt, _, response in ids],
                    "embedding": verdict.embedding.tolist(),
                    "scale": None if verdict.scale is None else verdict.scale.tolist(),
                }
            )
        facts = {"form": form, "spec": dataclasses.asdict(spec), "groups": expected}
        (target / "expected.json").write_text(json.dumps(facts), encoding="utf-8")
        print(f"wrote {target.name}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
