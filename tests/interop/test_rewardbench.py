"""Entries of the rewardbench package's table of models, used as by rewardbench 0.1.4."""

import numpy as np
import pytest
import torch

from gpmjax.config.judge import JudgeConfig
from gpmjax.data.groups import Group, user
from gpmjax.interop.rewardbench import pair_entry, scalar_entry
from gpmjax.judges.open import open_judge

WINDOW = 64
KWARGS = {
    "batch_size": 2, "truncation": True, "padding": True, "max_length": WINDOW, "function_to_apply": "none",
    "return_token_type_ids": False,
}  # fmt: skip
PAIRS = [
    ("Is it?", "yes", "no"),
    ("Is it?", "never", "no"),
    ("Was it?", "it was", "I cannot say"),
    ("Tie?", "same", "same"),
]


def build(entry, name, tokenizer):
    """Builds a pipeline from an entry, as scripts/run_rm.py does."""
    model_kwargs = {"device_map": "auto", "torch_dtype": torch.float16}
    model = entry["model_builder"](name, **model_kwargs, trust_remote_code=False)
    pipe = entry["pipeline_builder"]("text-classification", model=model, tokenizer=tokenizer)
    if pipe.tokenizer.pad_token_id is None:
        pipe.model.config.pad_token_id = pipe.tokenizer.eos_token_id
    assert pipe.model.config.pad_token_id is not None
    pipe.model = model  # accelerator.prepare returns unknown objects unchanged
    return pipe


def dialogue(prompt, answer):
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module", params=["gpm", "bt"])
def known(request, saved):
    """(kind, directory, judge, s(first ≻ second)/τ of PAIRS)."""
    judge = open_judge(JudgeConfig(saved[request.param], max_length=WINDOW, rows=1))
    verdicts = list(judge([Group(user(prompt), (a, b)) for prompt, a, b in PAIRS], "all"))
    return request.param, saved[request.param], judge, np.array([v.scores[0, 1] / v.tau for v in verdicts])


def test_pairs_as_a_custom_classifier(known):
    _, directory, judge, expected = known
    entry = pair_entry(torch.tensor, max_length=WINDOW, rows_per_batch=1)
    assert entry["model_type"] == "Custom Classifier" and entry["custom_dialogue"] and not entry["quantized"]
    pipe = build(entry, directory, judge.chat.tokenizer)
    chosen, rejected = ([dialogue(pair[0], pair[side]) for pair in PAIRS] for side in (1, 2))
    results = pipe(chosen, rejected, **KWARGS)
    assert results.dtype == torch.bool and len(results) == len(PAIRS)
    assert [1 if result else 0 for result in results.cpu().numpy().tolist()] == [int(s > 0) for s in expected]
    logits = pipe(chosen, rejected, output_logits=True, **KWARGS)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert logits[-1] == 0.0 and not results[-1]  # a tie is not a win
    np.testing.assert_allclose(pipe(rejected, chosen, output_logits=True, **KWARGS), -expected, rtol=1e-4, atol=1e-5)


def test_texts_as_a_sequence_classifier(known):
    kind, directory, judge, expected = known
    entry = scalar_entry(max_length=WINDOW, rows_per_batch=1)
    assert entry["model_type"] == "Seq. Classifier" and not entry["custom_dialogue"]
    pipe = build(entry, directory, judge.chat.tokenizer)
    # rewardbench/utils.py, prepare_dialogue_from_tokenizer
    chosen, rejected = (
        [pipe.tokenizer.apply_chat_template(dialogue(pair[0], pair[side]), tokenize=False) for pair in PAIRS]
        for side in (1, 2)
    )
    if kind == "gpm":
        with pytest.raises(ValueError, match="has no reward of a single response"):
            pipe(chosen, **KWARGS)
        return
    results = [pipe(texts, **KWARGS) for texts in (chosen, rejected)]
    # rewardbench/rewardbench.py recognises the form of transformers by its dicts
    assert isinstance(results[0][0], dict)
    chosen, rejected = (np.array([result["score"] for result in side]) for side in results)
    np.testing.assert_allclose(chosen - rejected, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda pipe: pipe([dialogue("p", "a")], [dialogue("q", "a")], **KWARGS),
            "pair 0: the two conversations differ",
        ),
        (
            lambda pipe: pipe([dialogue("p", "a")[:1]], [dialogue("p", "a")[:1]], **KWARGS),
            "pair 0: field 'prompt': must be",
        ),
        (lambda pipe: pipe([], [], **KWARGS | {"max_length": 512}), "max_length=512: the model was opened with 64"),
    ],
)
def test_an_error_is_one_line(saved, call, words):
    entry = pair_entry(torch.tensor, max_length=WINDOW, rows_per_batch=1)
    pipe = entry["pipeline_builder"]("", model=entry["model_builder"](saved["bt"]), tokenizer=None)
    with pytest.raises(ValueError, match=words) as refusal:
        call(pipe)
    assert "\n" not in str(refusal.value)


def test_a_revision_is_refused(saved):
    with pytest.raises(ValueError, match="revision='v2'"):
        pair_entry(torch.tensor)["model_builder"](saved["bt"], revision="v2")
