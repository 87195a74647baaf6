"""Compares the models of write_exports.py in the installed transformers with this package's values; needs no gpmjax.

    python tests/peers/read_exports.py DIRECTORY

Texts are those of `apply_chat_template`, unchanged. Prints the largest difference of each model; exits with 1 if one is
above the tolerance.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

TOLERANCE = 1e-4
"""Tolerated difference of embeddings and rewards, relative to the model's largest value if that is above 1."""
MISSING = {"gemma3_text-sequence_classification": (4, 56), "gemma3_text-reward": (4, 56)}
"""Model → the version of transformers from which on its class exists."""


def main(directory: Path) -> int:
    """Returns 0 if every model gives its expected values, else 1."""
    transformers.logging.set_verbosity_error()  # it would warn about heads that a causal language model does not use
    transformers.logging.disable_progress_bar()
    version = tuple(map(int, transformers.__version__.split(".")[:2]))
    bad = 0
    for folder in sorted(path.parent for path in directory.glob("*/expected.json")):
        if version < MISSING.get(folder.name, (0, 0)):
            print(f"{folder.name:<40} this transformers has no such class")
            continue
        difference = compare(folder)
        bad += difference > TOLERANCE
        print(f"{folder.name:<40} {difference:.1e}{'' if difference <= TOLERANCE else '  TOO LARGE'}", flush=True)
    verdict = "all equal" if not bad else f"{bad} differ"
    print(f"transformers {transformers.__version__}, torch {torch.__version__}: {verdict}")
    return int(bad > 0)


@torch.no_grad()
def compare(folder: Path) -> float:
    """The largest relative difference; infinite if token ids differ."""
    facts = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    native = facts["form"] == "native"
    kind = AutoModelForCausalLM if native else AutoModelForSequenceClassification
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    if model.dtype != torch.float32:
        raise ValueError(f"{folder.name}: loaded as {model.dtype}")
    heads = load_file(folder / "model.safetensors") if native else {}
    worst = 0.0
    for group in facts["groups"]:
        texts = [[*group["prompt"], {"role": "assistant", "content": response}] for response in group["responses"]]
        batch = tokenizer.apply_chat_template(texts, padding=True, return_dict=True, return_tensors="pt")
        lengths = batch["attention_mask"].sum(1)
        for ids, length, expected in zip(batch["input_ids"].tolist(), lengths.tolist(), group["ids"], strict=True):
            if ids[:length] != expected:
                print(f"{folder.name}: token ids differ: {ids[:length]} here, {expected} there")
                return float("inf")
        if native:
            got, scale = read_heads(model, tokenizer, heads, batch, lengths, group["prompt"])
            worst = max(worst, apart(scale, group["scale"]))
        else:
            got = model(**batch).logits
        worst = max(worst, apart(got, group["embedding"]))
    return worst


def read_heads(model, tokenizer, heads, batch, lengths, prompt):
    """(v of unit length at each sequence's last token, λ at the prompt's last token)."""
    states = model(**batch, output_hidden_states=True).hidden_states[-1]
    last = states[torch.arange(len(states)), lengths - 1]
    v = torch.nn.functional.normalize(last @ heads["value_head.weight"].T, dim=-1)
    gate = len(tokenizer.apply_chat_template(prompt, return_dict=True)["input_ids"]) - 1
    return v, torch.softmax(states[0, gate] @ heads["prompt_head.weight"].T, -1)


def apart(got: torch.Tensor, expected: list) -> float:
    """The largest difference, relative to the largest value if that is above 1."""
    expected = torch.tensor(expected)
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
