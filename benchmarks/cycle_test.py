"""False positives and power of the test of cycles (gpmjax/preference/cycle_test.py), and its results on real sets.

    python benchmarks/cycle_test.py --data=DIRECTORY --out=benchmarks/results/cycle_test.json

Comparisons are simulated from a known truth: rewards r ~ N(0, σ²), and for power a cyclic part with a given share of
the score energy Σ s². The cyclic part has k two-dimensional blocks with Gaussian embeddings, centred in each group.

False positives are sets with p ≤ 0.05 at B = 19 replicates; under the null the level is exactly the same as with more
replicates. For power, each simulated set has one replicate, and the 95 % quantile is taken over all sets together (the
warp-speed method: Giacomini, Politis and White 2013, doi:10.1017/S0266466612000655); this is the power with many
replicates.

With --data, the labels of real sets are tested too: DIRECTORY holds the files that REAL names. Results that are in the
output file already are kept, not computed again.
"""

import datetime
import json
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags

from gpmjax.data.group_files import read_groups
from gpmjax.data.grouping import merge_groups
from gpmjax.data.type_advantage import load_rule, split_pairs
from gpmjax.evals.diagnostics.vote_noise import cycles_of_groups
from gpmjax.files import write_json
from gpmjax.preference.cycle_test import ALPHA, cycle_test

OUT = flags.DEFINE_string("out", "benchmarks/results/cycle_test.json", "JSON file for the figures.")
DATA = flags.DEFINE_string("data", None, "Directory of the real sets; without it only simulations run.")
ONLY = flags.DEFINE_list("only", [], "Names of designs to run; all if empty.")


class Design(NamedTuple):
    """Simulated groups of ``size`` responses, with ``pairs`` of their pairs compared, ``votes`` times each."""

    groups: int
    size: int
    pairs: int
    votes: int
    spread: float
    """σ of the rewards, in log-odds."""
    sets: int
    """How many sets are simulated."""
    share: float = 0.0
    """The share of the score energy that is cyclic; 0 is transitive."""
    blocks: int = 1
    """k, the number of two-dimensional blocks of the cyclic part."""
    model: float = 0.0
    """The correlation of a model's cycles with the true ones; 0 tests the labels alone."""
    tails: str = "normal"


NULL = {
    "3 responses, 3 votes": Design(100, 3, 3, 3, 1.0, 250),
    "4 responses, 1 vote, rewards equal": Design(60, 4, 6, 1, 0.0, 250),
    "5 responses, 3 votes": Design(20, 5, 10, 3, 1.0, 250),
    "12 responses, 1 vote": Design(8, 12, 66, 1, 1.5, 250),
    "12 responses, half the pairs, 5 votes": Design(6, 12, 33, 5, 1.5, 250),
    "33 responses, 1 vote, as UKP": Design(4, 33, 346, 1, 3.0, 250),
    "40 responses, one prompt, 2 votes": Design(1, 40, 400, 2, 1.0, 250),
}
# Designs that violate the null's assumptions, or in which noise cannot be told from cycles.
ROBUST = {
    "3 responses, 1 vote, rewards equal": Design(200, 3, 3, 1, 0.0, 120),
    "3 responses, 1 vote": Design(200, 3, 3, 1, 1.0, 120),
    "12 responses, 1 vote, heavy tails": Design(8, 12, 66, 1, 1.0, 120, tails="t with 3 degrees"),
    "12 responses, 1 vote, two classes": Design(8, 12, 66, 1, 2.0, 120, tails="two classes"),
    "33 responses, 1 vote, little spread": Design(2, 33, 346, 1, 0.5, 120),
}
POWER = {
    f"{name}, k = {blocks}": design._replace(blocks=blocks)
    for name, blocks, design in (
        ("ukp_arguments, σ = 3", 1, Design(20, 33, 346, 1, 3.0, 60, 0.1)),
        ("ukp_arguments, σ = 3", 4, Design(20, 33, 346, 1, 3.0, 60, 0.1)),
        ("ukp_arguments, σ = 2", 1, Design(20, 33, 346, 1, 2.0, 60, 0.1)),
        ("ukp_arguments, σ = 2", 4, Design(20, 33, 346, 1, 2.0, 60, 0.1)),
        ("ukp_arguments, σ = 1", 1, Design(20, 33, 346, 1, 1.0, 60, 0.1)),
        ("ukp_arguments, σ = 1, 3 votes", 1, Design(20, 33, 346, 3, 1.0, 60, 0.1)),
        ("ukp_arguments, σ = 1, 10 votes", 4, Design(20, 33, 346, 10, 1.0, 60, 0.1)),
        ("type_advantage, σ = 2", 1, Design(1, 656, 20_000, 1, 2.0, 10, 0.1)),
        ("type_advantage, σ = 2", 4, Design(1, 656, 20_000, 1, 2.0, 10, 0.1)),
        ("summeval, σ = 2", 1, Design(200, 3, 3, 1, 2.0, 100, 0.1)),
        ("summeval, σ = 2, 3 votes", 1, Design(200, 3, 3, 3, 2.0, 100, 0.1)),
        ("summeval, σ = 2, 10 votes", 1, Design(200, 3, 3, 10, 2.0, 100, 0.1)),
        ("summeval, all energy cyclic", 1, Design(200, 3, 3, 1, 1.4, 100, 1.0)),
        ("topicalchat, σ = 2", 1, Design(194, 3, 3, 1, 2.0, 100, 0.1)),
        ("topicalchat, σ = 2, 3 votes", 1, Design(194, 3, 3, 3, 2.0, 100, 0.1)),
        ("summeval, σ = 2, a model's cycles of correlation 0.5", 1, Design(200, 3, 3, 1, 2.0, 100, 0.1, model=0.5)),
        (
            "ukp_arguments, σ = 1, a model's cycles of correlation 0.5",
            4,
            Design(20, 33, 346, 1, 1.0, 60, 0.1, model=0.5),
        ),
    )
}

# Labels → replicates; a replicate of a set with 656 responses to one prompt takes a second.
REAL = {
    "ukp_arguments_train.jsonl.gz": 199,
    "ukp_arguments_dev.jsonl.gz": 199,
    "summeval_cycles.jsonl.gz?config=coherence,consistency,fluency": 199,
    "summeval_cycles.jsonl.gz?config=consistency,relevance,fluency": 199,
    "topicalchat_cycles.jsonl.gz": 199,
    "qa_feedback.jsonl.gz": 199,
    "type_advantage": 39,
}


def simulate(design: Design, seed: int) -> tuple[list, list | None]:
    """Groups for `cycle_test`, and a model's cyclic log-odds (None without a model)."""
    rng = np.random.default_rng([seed, 7])
    everything = np.stack(np.triu_indices(design.size, 1), axis=1)
    groups, directions = [], []
    scale = 2 * (design.spread**2 if design.share < 1 else 2.0)
    for _ in range(design.groups):
        pairs = everything[np.sort(rng.permutation(len(everything))[: design.pairs])]
        reward = _rewards(design, rng)
        transitive = reward[:, None] - reward[None, :]
        cycles = _cycles(design, rng)
        energy = design.share / (1 - design.share) * scale if design.share < 1 else scale
        score = (transitive if design.share < 1 else 0) + np.sqrt(energy) * cycles
        i, j = pairs.T
        share = rng.binomial(design.votes, 1 / (1 + np.exp(-score[i, j]))) / design.votes
        groups.append([(int(a), int(b), float(t), 1.0, design.votes) for a, b, t in zip(i, j, share, strict=True)])
        stated = design.model * cycles + np.sqrt(1 - design.model**2) * _cycles(design, rng)
        directions.append(stated[i, j])
    return groups, directions if design.model else None


def _rewards(design: Design, rng: np.random.Generator) -> np.ndarray:
    draw = {
        "normal": rng.standard_normal,
        "t with 3 degrees": lambda size: rng.standard_t(3, size),
        "two classes": lambda size: rng.choice([-1.0, 1.0], size),
    }[design.tails]
    return design.spread * draw(design.size)


def _cycles(design: Design, rng: np.random.Generator) -> np.ndarray:
    """A skew matrix [K, K] whose rows sum to 0, with an expected mean square of 1 off the diagonal."""
    K, k = design.size, design.blocks
    a, b = rng.standard_normal((2, K, k))
    a, b = a - a.mean(0), b - b.mean(0)
    return (a @ b.T - b @ a.T) / np.sqrt(2 * k * (K - 2) / K)


def measure(name: str, design: Design, kind: str) -> dict:
    began = time.process_time()
    replicates = 19 if kind != "power" else 1
    rejected, statistics, simulated = [], [], []
    for seed in range(design.sets):
        groups, directions = simulate(design, seed)
        found = cycle_test(groups, directions=directions, replicates=replicates, seed=seed)
        rejected.append(found["p"] is not None and found["p"] <= ALPHA)
        statistics.append(found["statistic"])
        simulated.append(found["null"]["mean"])
    if kind == "power":
        rejected = np.array(statistics) > max(np.quantile(simulated, 1 - ALPHA), 1e-6)
    share = float(np.mean(rejected))
    return {
        "design": name, "kind": kind, **design._asdict(), "replicates": replicates, "rejected": share,
        "standard_error": float(np.sqrt(share * (1 - share) / design.sets)),
        "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def measure_real(name: str, replicates: int, data: Path) -> dict:
    began = time.process_time()
    if name == "type_advantage":
        rule = load_rule(data / "type_advantage_species.json", data / "type_advantage_matrix.json")
        groups, _ = split_pairs(rule, train_pairs=20_000, dev_pairs=4_000, dev_share=0.2, seed=0)
    else:
        groups = read_groups(str(data / name))
    found = cycles_of_groups(merge_groups(groups), replicates=replicates)
    return {"set": name, **found, "cpu_seconds": round(time.process_time() - began, 1)}


def main(_: list[str]) -> None:
    out = Path(OUT.value)
    before = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    rows, real = before.get("rows", []), before.get("real", [])
    for kind, designs in (("false positives", NULL), ("robustness", ROBUST), ("power", POWER)):
        for name, design in designs.items():
            known = [row for row in rows if (row["design"], row["kind"]) == (name, kind)]
            if known or (ONLY.value and name not in ONLY.value):
                continue
            rows.append(measure(name, design, kind))
            rejected = f"{rows[-1]['rejected']:.3f} ± {rows[-1]['standard_error']:.3f}"
            print(f"{kind:16} {name:60} {rejected}  {rows[-1]['cpu_seconds']} s", flush=True)
            write(out, rows, real)
    for name, replicates in REAL.items() if DATA.value else ():
        if not [row for row in real if row["set"] == name] and (not ONLY.value or name in ONLY.value):
            real.append(measure_real(name, replicates, Path(DATA.value)))
            print(f"{name:60} {real[-1]['text']}  {real[-1]['cpu_seconds']} s", flush=True)
            write(out, rows, real)


def _processor() -> str:
    """The processor's name where the system has it, else the machine's architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(out: Path, rows: list[dict], real: list[dict]) -> None:
    null = [row for row in rows if row["kind"] == "false positives"]
    sets = sum(row["sets"] for row in null)
    report = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()}-core {_processor()}; Python {platform.python_version()}, numpy {np.__version__}",
        "command": "python benchmarks/cycle_test.py --data=DIRECTORY",
        "level": ALPHA,
        "false_positives": {"sets": sets, "rejected": sum(row["rejected"] * row["sets"] for row in null) / sets}
        if sets
        else None,
        "rows": rows,
        "real": real,
    }
    write_json(out, report)


if __name__ == "__main__":
    app.run(main)
