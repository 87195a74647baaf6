"""Three iterations of GPO on SmolLM2-135M-Instruct, judged by a preference model that is not used in training.

    python benchmarks/gpo_smollm2.py --train=ukp_arguments_train.jsonl.gz --dev=ukp_arguments_dev.jsonl.gz \\
        --workdir=runs/gpo_smollm2

The data are crowd-labelled comparisons of arguments in web debates (UKPConvArg1Strict). The training debates are split
into two halves. A general preference model fitted on the first half trains the policy. A Bradley–Terry model fitted on
the second half judges it. The policy is trained on the questions of the training debates and judged on those of the dev
debates, which no model was fitted on. The figures are written to --out as JSON.
"""

import json
import sys
from pathlib import Path

from absl import app, flags, logging

from gpmjax.config import load_config
from gpmjax.config.improve import ContestConfig, PromptsConfig, ScorerConfig
from gpmjax.data.group_files import read_groups, write_groups
from gpmjax.files import replacing, write_json
from gpmjax.fit.fit import fit
from gpmjax.improve.improve import improve

TRAIN = flags.DEFINE_string("train", None, "Pairs whose prompts begin with the debate's line.", required=True)
DEV = flags.DEFINE_string("dev", None, "Pairs of other debates.", required=True)
WORKDIR = flags.DEFINE_string("workdir", "runs/gpo_smollm2", "Directory of the runs; the same command resumes there.")
OUT = flags.DEFINE_string("out", "benchmarks/results/gpo_smollm2.json", "File of the figures.")

CONFIGS = Path(__file__).parent.parent / "configs"
# Answers are short, so that two cores suffice. The judge's prompts put each debate's question in several ways.
PRACTICE = ("Answer in one short sentence.",)
EXAM = (*PRACTICE, "Answer briefly, in one sentence.", "Say it in a single short sentence.")


def debate(group) -> str:
    return group.prompt[0].content.splitlines()[0]


def halves(workdir: Path) -> tuple[str, str]:
    """Files of the training pairs of every other debate, and of the remaining debates."""
    groups = read_groups(TRAIN.value)
    debates = sorted({debate(group) for group in groups})
    files = workdir / "pairs-scorer.jsonl", workdir / "pairs-judge.jsonl"
    for number, file in enumerate(files):
        write_groups(file, [group for group in groups if debate(group) in debates[number::2]])
    return tuple(map(str, files))


def questions(source: str, endings: tuple[str, ...], file: Path) -> str:
    """Writes each debate's question with each of the endings; returns the file."""
    asked = list(dict.fromkeys(group.prompt[0].content for group in read_groups(source)))
    with replacing(file) as partial:
        lines = [json.dumps({"prompt": f"{question} {ending}"}) + "\n" for ending in endings for question in asked]
        partial.write_text("".join(lines), encoding="utf-8")
    return str(file)


def preference_model(name: str, config_file: str, pairs: str, workdir: Path) -> tuple[str, float]:
    """Fits heads on frozen features; returns the model's directory and its accuracy on the dev debates."""
    config = load_config(CONFIGS / config_file)
    config.epochs, config.data.max_length = 10, 256
    config.data.train, config.data.eval = (pairs,), (DEV.value,)
    config.model.feature_cache = str(workdir / "features")
    summary = fit(config, workdir / name)
    return str(workdir / name / "model"), summary["eval"][DEV.value]["accuracy"]


def run(workdir: Path) -> dict:
    pairs = halves(workdir)
    scorer, scorer_accuracy = preference_model("scorer-gpm", "gpm_plain_smollm2.py", pairs[0], workdir)
    judge, judge_accuracy = preference_model("judge-bt", "bt_smollm2.py", pairs[1], workdir)
    config = load_config(CONFIGS / "gpo_smollm2.py")
    config.prompts.source = questions(TRAIN.value, PRACTICE, workdir / "prompts.jsonl")
    config.scorer.model = scorer
    config.judge = ContestConfig(
        ScorerConfig(model=judge, dtype="float32", max_length=512),
        PromptsConfig(source=questions(DEV.value, EXAM, workdir / "exam.jsonl"), max_length=256),
        responses=4,
    )
    summary = improve(config, workdir / "run")
    accuracies = {"scorer (GPM)": scorer_accuracy, "judge (Bradley-Terry)": judge_accuracy}
    kept = {name: summary[name] for name in ("status", "iterations", "prompts", "seconds", "device", "config")}
    # The result does not depend on the directory of the run.
    return json.loads(json.dumps({"dev_accuracy": accuracies, **kept}).replace(f"{workdir}/", ""))


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    workdir = Path(WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        figures = write_json(Path(OUT.value), run(workdir))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    columns = "iteration", "judge: win rate", "scorer: win rate", "tokens, policy", "tokens, first policy"
    print(f"| {' | '.join(columns)} | KL of its samples from the first |")
    print("|---|---|---|---|---|---|")
    for line in figures["iterations"]:
        judged = line["judge"]
        rates = " | ".join(
            f"{judged[name]['win_rate']:.1%} ± {judged[name]['standard_error']:.1%}" for name in ("judge", "trainer")
        )
        lengths = f"{judged['length']['policy']:.1f} | {judged['length']['base']:.1f}"
        print(f"| {line['iteration']} | {rates} | {lengths} | {line['kl_base_k1']:.2f} |")


if __name__ == "__main__":
    app.run(main)
