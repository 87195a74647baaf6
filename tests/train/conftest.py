"""A model of two layers, its tokenizer in a directory, and a few pairs in a file: whole runs in seconds."""

import json
import random

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gpmjax.config import CheckpointConfig, Config, DataConfig, ModelConfig, OptimizerConfig


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory):
    """Bytes and two special tokens; padding is EOS."""
    names = ["<|end|>", "<|start|>"]
    vocabulary = {token: n for n, token in enumerate([*names, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<|start|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|start|>{{ m['role'] }}:{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant:{% endif %}"
    )
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory):
    """24 pairs over 8 prompts; the longer response is chosen, so that there is something to learn."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = []
    for n in range(24):
        short, long = sorted((draw.randint(1, 9), draw.randint(10, 20)))
        rows.append({"prompt": f"question {n % 8}", "chosen": "y" * long, "rejected": "n" * short})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def config(tokenizer_directory, pairs_file):
    """A run of 12 steps on all eight devices."""
    return Config(
        steps=12,
        export="none",
        model=ModelConfig(
            source="random:tiny",
            tokenizer=str(tokenizer_directory),
            dim=4,
            gate="softmax",
            tau=0.1,
            dtype="float32",
            remat="none",
        ),
        data=DataConfig(train=(str(pairs_file),), eval=(str(pairs_file),), max_length=64, rows=8, packing="single"),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        checkpoint=CheckpointConfig(every=4, keep=2),
    )
