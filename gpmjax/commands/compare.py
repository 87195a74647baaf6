"""Compare policies by their answers: AlpacaEval's win rates against a reference, MT-Bench's ratings, or both.

    gpmjax compare --outputs=gpm.json,bt.json --reference=base.json --judge=runs/gpm/model \\
        --out=runs/compare.json
    gpmjax compare --outputs=gpm.json --reference=base.json --endpoint=http://localhost:8000/v1 \\
        --endpoint_model=judge --out=runs/compare.json
    gpmjax compare --questions=question.jsonl --answers=gpm.jsonl,bt.jsonl --reference_answers=gpt-4.jsonl \\
        --endpoint=http://localhost:8000/v1 --endpoint_model=judge --out=runs/mt_bench.json

prints tables and writes the summary; verdicts and ratings go beside it as they come. The same command goes on where an
interrupted one stopped: a server's answers are kept in --cache, and none is asked for twice.
"""

import dataclasses
import sys

from absl import flags, logging

from gpmjax.config.flags import judge_flags
from gpmjax.config.judge import JudgeConfig
from gpmjax.evals.policies.compare import ComparePlan, compare, records_path
from gpmjax.evals.policies.grading import grade, grade_figures
from gpmjax.evals.policies.mt_bench import read_answers, read_questions, with_references
from gpmjax.evals.policies.outputs import write_records
from gpmjax.files import write_json
from gpmjax.judges.chat import chat_judge, open_endpoint
from gpmjax.judges.chat_endpoint import ChatEndpoint, Prices
from gpmjax.judges.chat_prompts import rating_identity
from gpmjax.judges.open import open_judge
from gpmjax.owner import owned_output
from gpmjax.reports.terminal_tables.evaluation import table_console
from gpmjax.reports.terminal_tables.policies import cost_line, grade_table, win_table

OUTPUTS = flags.DEFINE_list("outputs", [], "Files of answers in AlpacaEval's format, one a policy.")
REFERENCE = flags.DEFINE_string("reference", None, "The answers that they are compared with, in the same format.")
DIFFICULTY = flags.DEFINE_string("difficulty", "", "AlpacaEval's df_gamed.csv, or index and instruction_difficulty.")
TOKENIZER = flags.DEFINE_string("tokenizer", "", "Counts average lengths in tokens, besides characters.")
QUESTIONS = flags.DEFINE_string("questions", None, "MT-Bench's questions.")
ANSWERS = flags.DEFINE_list("answers", [], "Files of two-turn answers in FastChat's format, one a policy.")
REFERENCE_ANSWERS = flags.DEFINE_string(
    "reference_answers", None, "Good answers to MT-Bench's questions, in the same format."
)
OUT = flags.DEFINE_string("out", None, "Summary file, ending in .json.", required=True)

JUDGE = judge_flags(
    names={
        "model": "judge",
        "tokenizer": "judge_tokenizer",
        "verdicts": "judge_verdicts",
        "weighing": "verdicts",
        "answer_cache": "cache",
    },
    without={"function", "symmetry"},
)
PROMPT_PRICE = flags.DEFINE_float("prompt_price", 0.0, "Of a million prompt tokens.")
COMPLETION_PRICE = flags.DEFINE_float("completion_price", 0.0, "Of a million tokens of the judge's own.")


def check_flags(judge: JudgeConfig) -> None:
    """Raises ValueError for flags that do not go together."""
    if bool(judge.model) == bool(judge.endpoint):
        raise ValueError("one judge is needed: --judge, or --endpoint with --endpoint_model")
    if judge.endpoint and not judge.endpoint_model:
        raise ValueError("--endpoint needs --endpoint_model, the name that the server has for the judge")
    if bool(OUTPUTS.value) != bool(REFERENCE.value) or bool(ANSWERS.value) != bool(QUESTIONS.value):
        raise ValueError("--outputs go with --reference, --answers with --questions")
    if not OUTPUTS.value and not ANSWERS.value:
        raise ValueError("nothing to compare: --outputs with --reference, or --answers with --questions")
    if ANSWERS.value and not judge.endpoint:
        raise ValueError("--answers are rated by a chat model: they need --endpoint")


def rated(endpoint: ChatEndpoint) -> list[dict]:
    """Ratings of every file of answers."""
    questions, malformed = read_questions(QUESTIONS.value)
    if REFERENCE_ANSWERS.value:
        questions = with_references(questions, read_answers(REFERENCE_ANSWERS.value))
    found = []
    for source in ANSWERS.value:
        answers = read_answers(source)
        answers = answers._replace(malformed=malformed + answers.malformed)
        records = grade(endpoint, questions, answers)
        write_records(records_path(OUT.value, f"{answers.model}-ratings"), records)
        found.append(grade_figures(records, questions, answers))
    return found


def compare_outputs() -> dict:
    """Everything that the flags ask for; the summary, which is also on disk."""
    config = JUDGE()
    check_flags(config)
    with owned_output(OUT.value, (".json",)):
        return compare_all(config)


def compare_all(config: JudgeConfig) -> dict:
    """The work itself, when the flags are known to go together."""
    prices = Prices(PROMPT_PRICE.value, COMPLETION_PRICE.value)
    endpoint = None
    if config.endpoint:  # a chat model's verdicts are compared as they are given, in either order
        config = dataclasses.replace(config.beside(OUT.value), symmetry="none")
        endpoint = open_endpoint(config)
    summary = {}
    if OUTPUTS.value:
        judge = open_judge(config) if endpoint is None else chat_judge(config, endpoint)
        plan = ComparePlan(tuple(OUTPUTS.value), REFERENCE.value, DIFFICULTY.value, TOKENIZER.value)
        summary |= {
            "reference": REFERENCE.value,
            "judge": dict(judge.identity),
            "policies": compare(plan, judge, OUT.value),
        }
    if ANSWERS.value:
        rater = {**endpoint.identity, **rating_identity(), "reference_answers": REFERENCE_ANSWERS.value}
        summary |= {"questions": QUESTIONS.value, "rater": rater, "mt_bench": rated(endpoint)}
    if endpoint is not None:
        summary["cost"] = endpoint.meter.figures(prices)
    return write_json(OUT.value, summary)


def main(_: list[str]) -> None:
    """Writes and prints the comparison of outputs."""
    logging.set_verbosity(logging.WARNING)  # JAX warns of every backend that the machine lacks
    try:
        summary = compare_outputs()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it stopped")
    console = table_console()
    if "policies" in summary:
        console.print(win_table(summary["policies"], summary["reference"]))
    if "mt_bench" in summary:
        console.print(grade_table(summary["mt_bench"]))
    if "cost" in summary:
        console.print(cost_line(summary["cost"]))
