"""Bradley–Terry, GPM and hybrid with a trained backbone: LoRA on SmolLM2-135M-Instruct, one epoch, one seed.

    python benchmarks/hybrid_lora.py --data=DIRECTORY --workdir=runs/hybrid_lora --train_pairs=160 --held_out_pairs=160

The data are hh_helpful and hh_harmless. Every fit is a call of launch/train.py's function with the changes in
`lora_config`. The hybrid is fitted in two stages: Bradley–Terry with the backbone on nine tenths of the prompts, then
the cyclic part, whose weight is chosen on the last tenth (WORKDIR/hybrid/regularisation.json).
"""

import dataclasses
import datetime
import json
import random
from pathlib import Path

from absl import app, flags

from gpmjax.config import Config, load_config
from gpmjax.data.group_files import read_groups, write_groups
from gpmjax.files import write_json
from gpmjax.fit.fit import fit

DATA = flags.DEFINE_string("data", None, "Directory of hh_helpful.jsonl.gz and hh_harmless.jsonl.gz.", required=True)
WORKDIR = flags.DEFINE_string("workdir", "runs/hybrid_lora", "Directory of the runs.")
OUT = flags.DEFINE_string("out", "benchmarks/results/hybrid_lora.json", "File of the figures.")
TRAIN = flags.DEFINE_integer("train_pairs", 160, "Pairs to fit on, half of each set.")
HELD_OUT = flags.DEFINE_integer("held_out_pairs", 160, "Pairs of other prompts to measure on, half of each set.")
MACHINE = flags.DEFINE_string("machine", "", "Description of the machine, written beside the figures.")

CONFIGS = Path(__file__).parent.parent / "configs"
SETS = ("hh_helpful.jsonl.gz", "hh_harmless.jsonl.gz")


def draw(data: Path, workdir: Path) -> tuple[Path, Path]:
    """Draws training and held-out pairs by a fixed seed; returns their files."""
    train, out = [], []
    for name in SETS:
        groups = read_groups(str(data / name))
        chosen = random.Random(0).sample(range(len(groups)), (TRAIN.value + HELD_OUT.value) // 2)
        train += [groups[n] for n in chosen[: TRAIN.value // 2]]
        out += [groups[n] for n in chosen[TRAIN.value // 2 :]]
    files = workdir / "train.jsonl.gz", workdir / "held_out.jsonl.gz"
    for file, groups in zip(files, (train, out), strict=True):
        write_groups(file, groups)
    return files


def lora_config(name: str, train: Path, out: Path) -> Config:
    """configs/gpm_plain_smollm2.py with adapters of rank 8 on q, k, v, o.

    The hybrid has curl="auto"; Bradley–Terry ("bt") has a scalar head.
    """
    config = load_config(CONFIGS / "gpm_plain_smollm2.py")
    config.model.backbone, config.model.lora_rank, config.model.remat = "train", 8, "dots"
    if name == "bt":
        config.model = config.model.as_bradley_terry()
    if name == "hybrid":
        config.model.kind, config.loss.curl = "hybrid", "auto"
    config.data.train, config.data.eval = (str(train),), (str(out),)
    config.data.max_length, config.data.rows, config.data.packing = 384, 8, "pack"
    config.data.row_length = 768
    config.optimizer = dataclasses.replace(config.optimizer, learning_rate=3e-4)
    config.epochs, config.export, config.log_every = 1, "none", 5
    config.checkpoint.every = 0
    return config


def main(_: list[str]) -> None:
    workdir = Path(WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)
    train, out = draw(Path(DATA.value), workdir)
    rows = []
    for name in ("bt", "gpm", "hybrid"):
        done = workdir / name / "summary.json"
        summary = json.loads(done.read_text(encoding="utf-8")) if done.exists() else {}
        if summary.get("status") != "finished":
            summary = fit(lora_config(name, train, out), workdir / name)
        (figures,) = summary["eval"].values()
        chosen = summary.get("regularisation", {})
        rows.append(
            {
                "model": name,
                **{key: figures[key] for key in ("accuracy", "accuracy_interval", "nll", "comparisons")},
                **{key: chosen[key] for key in ("gamma", "tau", "curl", "held_out_groups", "gain") if key in chosen},
                "train_pairs": TRAIN.value,
                "seconds": summary["seconds"],
            }
        )
        pairs = f"--train_pairs={TRAIN.value} --held_out_pairs={HELD_OUT.value}"
        report = {
            "command": f"python benchmarks/hybrid_lora.py --data=DIRECTORY {pairs}",
            "date": datetime.date.today().isoformat(),
            "machine": MACHINE.value,
            "rows": rows,
        }
        write_json(Path(OUT.value), report)
        print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    app.run(main)
