"""BT, GPM, PairPM and GenRM on real preferences with a frozen SmolLM2-135M-Instruct; figures of docs/results.

    python benchmarks/real_data.py --data=DIRECTORY --workdir=runs/real_data --out=benchmarks/results/real_data.json

DIRECTORY holds the files that EXPERIMENTS names. Every fit is a run of configs/gpm_plain_smollm2.py with the changes of
its experiment and model, so each can be repeated alone with launch/train.py. Finished runs are read, not repeated.
"""

import dataclasses
import datetime
import json
import os
import platform
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

from gpmjax.config import Config, load_config
from gpmjax.data.cyclic import bt_ceiling
from gpmjax.data.group_files import read_groups, write_groups
from gpmjax.data.questions import question_named
from gpmjax.data.type_advantage import load_rule, split_pairs
from gpmjax.files import write_json
from gpmjax.fit.fit import fit

DATA = flags.DEFINE_string("data", None, "Directory of the data files.", required=True)
WORKDIR = flags.DEFINE_string("workdir", "runs/real_data", "Directory of the runs and cached features.")
OUT = flags.DEFINE_string("out", "benchmarks/results/real_data.json", "File of the figures.")
ONLY = flags.DEFINE_list("only", [], "Experiments to run; all when empty.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the heads and of the order of the data.")

CONFIG = Path(__file__).parent.parent / "configs" / "gpm_plain_smollm2.py"
KEYS = ("set", "model", "dim", "gate", "normalise", "head", "objective", "question")
SUMMEVAL = ("coherence,consistency,fluency", "consistency,relevance,fluency")


class Model(NamedTuple):
    """A head on the frozen backbone. With dimension 1 it is Bradley–Terry, or a model that is asked a question."""

    dim: int
    gate: str = "none"
    normalise: str = "none"
    widths: tuple[int, ...] = ()
    """Hidden widths of an MLP head; () for a linear head."""
    objective: str = "cross_entropy"
    question: str = ""
    """A question of gpmjax.data.questions about one response (a verifier, GenRM) or two (PairPM)."""
    start: str = "new"
    """ "new" heads, or "verdict" for heads that start with the language model's answer to the question."""

    @property
    def folder(self) -> str:
        parts = [str(self.dim), self.gate, self.normalise, "mlp" if self.widths else "linear", self.objective]
        return "-".join(parts + ([self.question, self.start] if self.question else []))

    @property
    def kind(self) -> str:
        """The common name of the system."""
        if self.question:
            return "pairpm" if question_named(self.question).pairwise else "genrm"
        return "bt" if self.dim == 1 else "gpm"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Data, the models, and the training budget, which is the same for every model."""

    train: str
    held_out: str
    models: tuple[Model, ...]
    epochs: int
    learning_rate: float
    rows: int = 128
    max_length: int = 512


def linear(*dims: int) -> tuple[Model, ...]:
    return tuple(Model(dim) for dim in dims)


def mlp(*dims: int) -> tuple[Model, ...]:
    return tuple(Model(dim, widths=(256,)) for dim in dims)


ABLATION = tuple(
    Model(dim, gate, normalise) for dim in (2, 4, 6, 8) for gate in ("none", "softmax") for normalise in ("none", "l2")
)
# On a cycle the best scalar by cross-entropy ties all responses. This model is trained for accuracy instead.
BT_FOR_ACCURACY = Model(1, objective="expected_error")

# Every system of the paper with one budget, as heads on the frozen backbone.
SYSTEMS = (
    Model(1),
    Model(8),
    Model(1, question="candidates"),
    Model(1, question="a_or_b", start="verdict", objective="verdict"),
    Model(1, question="yes_or_no", start="verdict", objective="verdict"),
    Model(1, widths=(256,)),
    Model(8, widths=(256,)),
    Model(1, widths=(256,), question="candidates"),
)

EXPERIMENTS: dict[str, Experiment] = {
    # Human votes on arguments; other debates are held out.
    "ukp_arguments": Experiment(
        "ukp_arguments_train.jsonl.gz", "ukp_arguments_dev.jsonl.gz", linear(1, 2, 4, 8), epochs=20, learning_rate=1e-3
    ),
    "ablation": Experiment(
        "ukp_arguments_train.jsonl.gz", "ukp_arguments_dev.jsonl.gz", ABLATION, epochs=20, learning_rate=1e-3
    ),
    # A rule with cycles. The species of the held-out pairs are in no training pair.
    "type_advantage": Experiment(
        "type_advantage_train.jsonl.gz",
        "type_advantage_dev.jsonl.gz",
        linear(1, 2, 4, 8, 18) + mlp(1, 2, 4, 8, 18),
        epochs=20,
        learning_rate=3e-3,
        rows=512,
    ),
    # A random share of the comparisons, since PairPM reads every pair of responses twice at full length.
    "systems type_advantage": Experiment(
        "type_advantage_train-1000.jsonl.gz", "type_advantage_dev-300.jsonl.gz", SYSTEMS, epochs=40, learning_rate=1e-3
    ),
} | {
    # Three-cycles, trained and evaluated on the same groups as in the paper's table 1, to see whether a model can fit
    # them.
    f"summeval {aspects}": Experiment(
        f"summeval_cycles.jsonl.gz?config={aspects}",
        f"summeval_cycles.jsonl.gz?config={aspects}",
        (*linear(1, 8, 32, 64), BT_FOR_ACCURACY),
        epochs=600,
        learning_rate=3e-3,
        max_length=768,
    )
    for aspects in SUMMEVAL
}


def cell_config(experiment: Experiment, model: Model, seed: int, data: Path, features: Path) -> Config:
    """configs/gpm_plain_smollm2.py with the changes of one experiment and model."""
    config = load_config(CONFIG)
    config.seed, config.epochs, config.export, config.log_every = seed, experiment.epochs, "none", 50
    if model.dim == 1:
        config.model = config.model.as_bradley_terry()
        config.model.question, config.model.start_heads = model.question, model.start
        config.model.kind = "pairwise" if model.kind == "pairpm" else "bt"
    else:
        config.model.dim, config.model.gate, config.model.normalise = model.dim, model.gate, model.normalise
        # Scores of unit vectors are within ±1. The paper's temperature brings them to the scale of log-odds.
        config.model.tau = 0.1 if model.normalise == "l2" else 1.0
    config.model.mlp_widths, config.model.head = model.widths, "mlp" if model.widths else "linear"
    config.loss.objective = model.objective
    config.model.feature_cache = str(features)
    config.data.train, config.data.eval = (str(data / experiment.train),), (str(data / experiment.held_out),)
    config.data.max_length, config.data.rows, config.data.max_responses = experiment.max_length, experiment.rows, 2
    config.optimizer.learning_rate = experiment.learning_rate
    config.checkpoint.every = 0
    return config


def measure(name: str, experiment: Experiment, data: Path, workdir: Path, seeds: list[int]) -> Iterator[dict]:
    """One row per model and seed."""
    for model in experiment.models:
        for seed in seeds:
            folder = workdir / name.replace(",", "-").replace(" ", "_") / f"{model.folder}-{seed}"
            done = folder / "summary.json"
            summary = json.loads(done.read_text(encoding="utf-8")) if done.exists() else {}
            if summary.get("status") != "finished":
                summary = fit(cell_config(experiment, model, seed, data, workdir / "features"), folder)
            (figures,) = summary["eval"].values()
            yield {
                "set": name,
                "model": model.kind,
                "dim": model.dim,
                "gate": model.gate,
                "normalise": model.normalise,
                "head": "mlp" if model.widths else "linear",
                "objective": model.objective,
                "question": model.question,
                "seed": seed,
                "comparisons": figures["comparisons"],
                "accuracy": figures["accuracy"],
                "nll": figures["nll"],
                **{
                    name: figures.get(name)
                    for name in ("prompts", "accuracy_interval", "interval_over", "nll_interval")
                },
                "ece": figures["ece"],
                "longer_wins_tokens": figures["longer_wins"]["tokens"]["accuracy"],
                "longer_wins_characters": figures["longer_wins"]["characters"]["accuracy"],
                "seconds": summary["seconds"],
                **({"order": figures["order"]} if "order" in figures else {}),
            }


def prepare_types(data: Path, workdir: Path) -> None:
    """Writes pairs of the type-advantage rule: 20,000 of training species, and 4,000 of held-out ones."""
    rule = load_rule(data / "type_advantage_species.json", data / "type_advantage_matrix.json")
    train, dev = split_pairs(rule, train_pairs=20_000, dev_pairs=4_000, dev_share=0.2, seed=0)
    write_groups(workdir / "type_advantage_train.jsonl.gz", train)
    write_groups(workdir / "type_advantage_dev.jsonl.gz", dev)


def draw_share(data: Path, workdir: Path, name: str) -> Path:
    """Writes NAME-COUNT.jsonl.gz into the workdir: COUNT groups of NAME.jsonl.gz, drawn by a fixed seed."""
    stem, _, count = name.removesuffix(".jsonl.gz").rpartition("-")
    source = workdir if stem.startswith("type_advantage") else data
    groups = read_groups(str(source / f"{stem}.jsonl.gz"))
    chosen = sorted(random.Random(0).sample(range(len(groups)), int(count)))
    write_groups(workdir / name, [groups[n] for n in chosen])
    return workdir


def table(rows: list[dict]) -> Table:
    """Table of means over seeds."""
    view = Table(title="held-out accuracy, mean over seeds [smallest, largest]")
    for column in (
        "set",
        "model",
        "2k",
        "gate",
        "unit length",
        "head",
        "objective",
        "question",
        "accuracy",
        "NLL",
        "longer wins",
    ):
        view.add_column(column)
    cells: dict[tuple, list[dict]] = {}
    for row in rows:
        cells.setdefault(tuple(row[key] for key in KEYS), []).append(row)
    for (name, model, dim, gate, normalise, head, objective, question), same in cells.items():
        accuracy = [row["accuracy"] for row in same]
        mean = sum(accuracy) / len(accuracy)
        view.add_row(
            name, model, str(dim), gate, normalise, head, objective, question,
            f"{mean:.1%} [{min(accuracy):.1%}, {max(accuracy):.1%}]",
            f"{sum(row['nll'] for row in same) / len(same):.3f}",
            f"{same[0]['longer_wins_characters']:.1%}",
        )  # fmt: skip
    return view


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    workdir, rows = Path(WORKDIR.value), []
    workdir.mkdir(parents=True, exist_ok=True)
    ceilings = {}
    for name, experiment in EXPERIMENTS.items():
        if ONLY.value and name.split()[0] not in ONLY.value:
            continue
        data = workdir if name == "type_advantage" else Path(DATA.value)
        if name.endswith("type_advantage"):
            prepare_types(Path(DATA.value), workdir)
        if name.startswith("systems"):
            for file in (experiment.train, experiment.held_out):
                data = draw_share(Path(DATA.value), workdir, file)
        if name.startswith("summeval"):
            ceilings[name] = bt_ceiling(read_groups(str(data / experiment.held_out)))
        for row in measure(name, experiment, data, workdir, [int(seed) for seed in SEEDS.value]):
            rows.append(row)
            report = {
                "date": datetime.date.today().isoformat(),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "command": f"python benchmarks/real_data.py --only={','.join(ONLY.value)}"
                if ONLY.value
                else "python benchmarks/real_data.py",
                "bt_ceilings": ceilings,
                "rows": rows,
            }
            write_json(Path(OUT.value), report)
    Console(width=140).print(table(rows))


if __name__ == "__main__":
    app.run(main)
