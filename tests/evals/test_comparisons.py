"""From batches to rows to figures, with models simple enough to know the answer."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from scipy import special

from gpmjax.arrays import Comparisons, FeatureBatch
from gpmjax.evals import comparisons as preference
from gpmjax.models.scores import PreferenceOutput
from gpmjax.reports.terminal_tables.evaluation import MAX_PARTS, summary_table

TAU = 0.5


def features_as_embeddings(batch):
    """The model whose embedding is the feature itself."""
    return PreferenceOutput(jnp.asarray(batch.response), None, jnp.float32(TAU))


def make_batch(embedding, comparisons, *, places):
    """One row; ``comparisons`` (row, chosen, rejected, target) are padded to ``places``."""
    padding = [(-1, 0, 0, 1.0)] * (places - len(comparisons))
    row, chosen, rejected, target = (np.array([column]) for column in zip(*comparisons, *padding, strict=True))
    embedding = np.float32(embedding)[None]
    return FeatureBatch(
        response=embedding,
        prompt=embedding,
        response_mask=np.ones(embedding.shape[:2], bool),
        comparisons=Comparisons(
            chosen=np.int32(chosen),
            rejected=np.int32(rejected),
            target=np.float32(target),
            margin=np.zeros(row.shape, np.float32),
            # Of no weight in training, and measured all the same.
            weight=np.zeros(row.shape, np.float32),
            number=np.int32(row),
        ),
    )


def facts(count):
    return {
        row: preference.Facts(
            f"f.jsonl:{row + 1}", (row + 2, 1), (row, 9), {"subset": "even" if row % 2 == 0 else "odd"}
        )
        for row in range(count)
    }


def circle(count):
    angle = 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


CYCLE = [(row, row, (row + 1) % 3, 1.0) for row in range(3)]


def test_a_cycle_is_all_wins_and_padding_is_not_scored():
    batch = make_batch(circle(3), CYCLE, places=8)
    records = []
    figures = preference.measure(features_as_embeddings, [batch], facts(3), sink=records.append)
    assert figures["accuracy"] == 1.0 and figures["comparisons"] == 3 and figures["tau"] == TAU
    assert figures["mean_margin"] == pytest.approx(np.sin(2 * np.pi / 3))
    assert [record["row"] for record in records] == [0, 1, 2]
    assert figures["by"]["subset"]["even"]["comparisons"] == 2
    # 2 > 1, 3 > 1, 4 > 1 tokens; 0 < 9, 1 < 9, 2 < 9 characters.
    assert figures["longer_wins"]["tokens"]["accuracy"] == 1.0
    assert figures["longer_wins"]["characters"]["accuracy"] == 0.0


def test_a_record_says_all_there_is():
    batch = make_batch(circle(3), CYCLE[1:2], places=1)
    (record,) = preference.rows(preference.score_batches(features_as_embeddings, [batch]), facts(3))
    score = np.sin(2 * np.pi / 3)
    assert record["score"] == pytest.approx(score) and record["probability"] == pytest.approx(
        special.expit(score / TAU)
    )
    assert {key: record[key] for key in record if key not in ("score", "probability")} == {
        "row": 1,
        "source": "f.jsonl:2",
        "target": 1.0,
        "chosen_tokens": 3,
        "rejected_tokens": 1,
        "chosen_characters": 1,
        "rejected_characters": 9,
        "truncated": False,
        "prompt": "",
        "tags": {"subset": "odd"},
    }
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_figures_do_not_depend_on_how_comparisons_are_batched():
    whole = make_batch(circle(3), CYCLE, places=3)
    split = [make_batch(circle(3), [comparison], places=2) for comparison in reversed(CYCLE)]
    one, other = (preference.measure(features_as_embeddings, batches, facts(3)) for batches in ([whole], split))
    assert one == other


def test_rows_from_a_file_give_the_same_summary():
    batch = make_batch(circle(3), CYCLE, places=3)
    records = list(preference.rows(preference.score_batches(features_as_embeddings, [batch]), facts(3)))
    restored = [json.loads(json.dumps(record)) for record in reversed(records)]
    assert preference.summarise_rows(restored, TAU) == preference.summarise_rows(records, TAU)


def test_intervals_are_over_the_prompts_of_the_records():
    batch = make_batch(circle(3), CYCLE, places=3)
    known = {row: fact.__class__(**{**vars(fact), "prompt": "p" if row < 2 else "q"}) for row, fact in facts(3).items()}
    records = []
    figures = preference.measure(features_as_embeddings, [batch], known, sink=records.append)
    assert (figures["prompts"], figures["interval_over"]) == (2, "prompts")
    # All right over two prompts: as Wilson's of 2 in 2, with Student's quantile of one degree of freedom.
    assert figures["accuracy_interval"] == [pytest.approx(2 / (2 + 12.706**2), abs=1e-5), 1.0]
    old = [{name: value for name, value in record.items() if name != "prompt"} for record in records]
    found = preference.summarise_rows(old, TAU)
    assert (found["prompts"], found["interval_over"]) == (None, "comparisons") and found["accuracy"] == 1.0
    kept = preference.Kept(old[:2], TAU)  # an interrupted evaluation from before goes on
    (scored,) = preference.score_batches(features_as_embeddings, [make_batch(circle(3), CYCLE[2:], places=3)])
    assert preference.measure_scored([scored], known, kept=kept) == figures


def test_a_score_that_is_not_finite_is_named():
    broken = make_batch(np.full((3, 2), np.nan), CYCLE, places=3)
    with pytest.raises(ValueError, match="f.jsonl:1: the model's score is nan, must be finite"):
        preference.measure(features_as_embeddings, [broken], facts(3))


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="at least one comparison"):
        preference.measure(features_as_embeddings, [], {})


def test_every_part_has_a_line_up_to_a_limit():
    tags = [{"group": f"[{i:03}]"} for i in range(MAX_PARTS + 2)]
    records = [
        {"row": i, "score": 0.0, "target": 0.5, "tags": tag}
        | {f"{side}_{measure}": 1 for side in ("chosen", "rejected") for measure in preference.LENGTHS}
        for i, tag in enumerate(tags)
    ]
    console = Console(width=160, file=io.StringIO())
    console.print(summary_table(preference.summarise_rows(records, 1.0), title="dev"))
    text = console.file.getvalue()
    assert text.count("[0") == MAX_PARTS and "and 2 more" in text and "42 tied labels" in text
