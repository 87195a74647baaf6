"""Three iterations of GPO on SmolLM2-135M-Instruct, judged by a preference model that had no part in it.

    python benchmarks/gpo_smollm2.py --train=ukp_arguments_train.jsonl.gz --dev=ukp_arguments_dev.jsonl.gz --workdir=runs/gpo_smollm2

The data are crowd-labelled comparisons of arguments in web debates (UKPConvArg1Strict). Its training debates are cut into
halves that share no debate: on one a general preference model is fitted, which trains the policy; on the other a
Bradley–Terry model, which judges it. The policy practises on the training debates' questions and is judged on those of
the dev debates, which nobody has seen. The table goes to --out as JSON.
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
WORKDIR = flags.DEFINE_string("workdir", "runs/gpo_smollm2", "Where everything goes; the same command goes on there.")
OUT = flags.DEFINE_string("out", "benchmarks/results/gpo_smollm2.json", "Where the figures go.")

CONFIGS = Path(__file__).parent.parent / "configs"
# Short answers, for the sake of two cores; one debate's question is put in several ways.
PRACTICE = ("Answer in one short sentence.",)
EXAM = (*PRACTICE, "Answer briefly, in one sentence.", "Say it in a single short sentence.")


def debate(group) -> str:
    return group.prompt[0].content.splitlines()[0]


def halves(workdir: Path) -> tuple[str, str]:
    """The training pairs of every other debate, and those of the rest."""
    groups = read_groups(TRAIN.value)
    debates = sorted({debate(group) for group in groups})
    files = workdir / "pairs-scorer.jsonl", workdir / "pairs-judge.jsonl"
    for number, file in enumerate(files):
        write_groups(file, [group for group in groups if debate(group) in debates[number::2]])
    return tuple(map(str, files))


def questions(source: str, endings: tuple[str, ...], file: Path) -> str:
    """Each debate's question with each of the endings."""
    asked = list(dict.fromkeys(group.prompt[0].content for group in read_groups(source)))
    with replacing(file) as partial:
        lines = [json.dumps({"prompt": f"{question} {ending}"}) + "\n" for ending in endings for question in asked]
        partial.write_text("".join(lines), encoding="utf-8")
    return str(file)


def preference_model(name: str, config_file: str, pairs: str, workdir: Path) -> tuple[str, float]:
    """Fits heads on frozen features; the model's directory and its accuracy on the dev debates."""
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
    # Where the run was is no part of its result.
    return json.loads(json.dumps({"dev_accuracy": accuracies, **kept}).replace(f"{workdir}/", ""))


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    workdir = Path(WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        figures = write_json(Path(OUT.value), run(workdir))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(
        "| iteration | judge: win rate | scorer: win rate | tokens, policy | tokens, first policy | KL of its samples from the first |"
    )
    print("|---|---|---|---|---|---|")
    for line in figures["iterations"]:
        judged = line["judge"]
        rates = " | ".join(
            f"{judged[name]['win_rate']:.1%} ± {judged[name]['standard_error']:.1%}" for name in ("judge", "trainer")
        )
        length = judged["length"]
        print(
            f"| {line['iteration']} | {rates} | {length['policy']:.1f} | {length['base']:.1f} | {line['kl_base_k1']:.2f} |"
        )


if __name__ == "__main__":
    app.run(main)
