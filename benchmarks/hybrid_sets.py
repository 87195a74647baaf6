"""The ten sets of benchmarks/hybrid.py: readers that return the training and the held-out groups for a seed."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from gpmjax.data.group_files import read_groups
from gpmjax.data.grouping import merge_groups
from gpmjax.data.groups import Group
from gpmjax.data.type_advantage import load_rule, split_pairs

Split = tuple[list[Group], list[Group]]
HELD_OUT = 0.3
"""Share of the prompts held out, for a set without a split of its own."""


def whole(file: str, **tags: str) -> Callable[[Path, int], Split]:
    """Reader of all of a file, whose prompts are split by the seed."""
    query = "".join(f"?{name}={value}" for name, value in tags.items())
    return lambda data, seed: split_prompts(read_groups(f"{data / file}{query}"), seed)


def sample(file: str, prompts: int) -> Callable[[Path, int], Split]:
    """Reader of a fixed sample of a file's prompts, which are split by the seed."""

    def read(data: Path, seed: int) -> Split:
        groups = merge_groups(read_groups(str(data / file)))
        chosen = sorted(random.Random(0).sample(range(len(groups)), prompts))
        return split_prompts([groups[n] for n in chosen], seed)

    return read


def split_prompts(groups: Sequence[Group], seed: int) -> Split:
    """Draws prompts into a training and a held-out part."""
    merged = merge_groups(groups)
    order = random.Random(seed).sample(range(len(merged)), len(merged))
    out = set(order[: round(HELD_OUT * len(merged))])
    train = [group for n, group in enumerate(merged) if n not in out]
    return train, [group for n, group in enumerate(merged) if n in out]


def official(train: str, held_out: str) -> Callable[[Path, int], Split]:
    """Reader of a set with a split of its own."""
    return lambda data, seed: (
        merge_groups(read_groups(str(data / train))),
        merge_groups(read_groups(str(data / held_out))),
    )


def creatures(data: Path, seed: int) -> Split:
    """20,000 pairs of 656 species, and 4,000 pairs of the 164 others, drawn by the seed."""
    rule = load_rule(data / "type_advantage_species.json", data / "type_advantage_matrix.json")
    train, held_out = split_pairs(rule, train_pairs=20_000, dev_pairs=4_000, dev_share=0.2, seed=seed)
    return merge_groups(train), merge_groups(held_out)


def llmbar(data: Path, seed: int) -> Split:
    """Both parts of LLMBar, mixed."""
    return split_prompts(
        [*read_groups(str(data / "llmbar_natural.jsonl.gz")), *read_groups(str(data / "llmbar_neighbor.jsonl.gz"))],
        seed,
    )


def letters(data: Path, seed: int) -> Split:
    """The six cycles, fitted and measured on the same groups, since letters do not generalise to other letters."""
    groups = merge_groups(read_groups("builtin:letters"))
    return groups, groups


SETS = {
    "ukp_arguments": official("ukp_arguments_train.jsonl.gz", "ukp_arguments_dev.jsonl.gz"),
    "qa_feedback": whole("qa_feedback.jsonl.gz"),
    "hh_helpful": sample("hh_helpful.jsonl.gz", 450),
    "hh_harmless": sample("hh_harmless.jsonl.gz", 450),
    "gsm8k_solutions": sample("gsm8k_solutions.jsonl.gz", 250),
    "llmbar": llmbar,
    "type_advantage": creatures,
    "summeval_cycles": whole("summeval_cycles.jsonl.gz", config="coherence,consistency,fluency"),
    "topicalchat_cycles": whole("topicalchat_cycles.jsonl.gz", config="coherence,naturalness,engagingness"),
    "letters": letters,
}
