"""Compare policies by their answers: AlpacaEval's win rates against a reference, MT-Bench's ratings, or both.

    python launch/compare.py --outputs=gpm.json,bt.json --reference=base.json --judge=runs/gpm/model --out=runs/compare.json
    python launch/compare.py --outputs=gpm.json --reference=base.json --endpoint=http://localhost:8000/v1 \\
        --endpoint_model=judge --out=runs/compare.json
    python launch/compare.py --questions=question.jsonl --answers=gpm.jsonl,bt.jsonl --reference_answers=gpt-4.jsonl \\
        --endpoint=http://localhost:8000/v1 --endpoint_model=judge --out=runs/mt_bench.json

prints tables and writes the summary; verdicts and ratings go beside it as they come. The same command goes on where an
interrupted one stopped: a server's answers are kept in --cache, and none is asked for twice.
"""

import os
import sys
from pathlib import Path

from absl import app, flags, logging

from gpmjax.evals.policies.compare import ComparePlan, compare, records_path
from gpmjax.evals.policies.grading import grade, grade_figures
from gpmjax.evals.policies.mt_bench import read_answers, read_questions, with_references
from gpmjax.evals.policies.outputs import write_records
from gpmjax.files import write_json
from gpmjax.judges.answer_cache import AnswerCache
from gpmjax.judges.chat import ChatJudge
from gpmjax.judges.chat_endpoint import ChatEndpoint, Prices
from gpmjax.judges.chat_prompts import PAIR_PROMPTS, TOP_LOGPROBS, rating_identity
from gpmjax.judges.judge import Judge
from gpmjax.judges.open import JudgePlan, open_judge
from gpmjax.models.config import DTYPES
from gpmjax.owner import owned_output
from gpmjax.reports.terminal_tables.evaluation import table_console
from gpmjax.reports.terminal_tables.policies import cost_line, grade_table, win_table
from gpmjax.sampling.http import Server

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

JUDGE = flags.DEFINE_string("judge", None, "A preference model that judges; else --endpoint.")
DECLARE = flags.DEFINE_list("declare", [], "What its checkpoint does not say: gate=softmax,normalise=l2,tau=0.1")
MAX_LENGTH = flags.DEFINE_integer(
    "max_length",
    0,
    "Its window in tokens; of longer texts the excess is cut, the response last. 0: 2048, or its positions where fewer.",
    0,
)
ROWS = flags.DEFINE_integer(
    "rows_per_batch", 8, "Its batch; changes memory and speed; float32 scores by 1e-5 of the largest at most.", 1
)
DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "What it computes in.")

ENDPOINT = flags.DEFINE_string("endpoint", None, "A server of chat completions that judges: http://…/v1")
ENDPOINT_MODEL = flags.DEFINE_string("endpoint_model", None, "The name that it has for the judge.")
KEY = flags.DEFINE_string("key_variable", "", "Environment variable that holds the server's key; none: no key is sent.")
PROMPT = flags.DEFINE_enum(
    "prompt", "letter", list(PAIR_PROMPTS), "How pairs are put: one letter back, or reasons first."
)
WEIGHING = flags.DEFINE_enum(
    "verdicts", "weighed", ["weighed", "hard"], "Weigh a letter by its probability, or take it as said."
)
CACHE = flags.DEFINE_string("cache", None, "Where the server's answers are kept; by default beside --out.")
TIMEOUT = flags.DEFINE_float("timeout", 600.0, "Seconds that a request may be silent for.")
RETRIES = flags.DEFINE_integer("retries", 4, "How often a failed request is sent again.")
BACKOFF = flags.DEFINE_float("backoff", 1.0, "Seconds before the first of these; doubled each time.")
CONCURRENCY = flags.DEFINE_integer("concurrency", 16, "Requests at a time.")
PROMPT_PRICE = flags.DEFINE_float("prompt_price", 0.0, "Of a million prompt tokens.")
COMPLETION_PRICE = flags.DEFINE_float("completion_price", 0.0, "Of a million tokens of the judge's own.")


def check_flags() -> None:
    """Raises ValueError for flags that do not go together."""
    if bool(JUDGE.value) == bool(ENDPOINT.value):
        raise ValueError("one judge is needed: --judge, or --endpoint with --endpoint_model")
    if ENDPOINT.value and not ENDPOINT_MODEL.value:
        raise ValueError("--endpoint needs --endpoint_model, the name that the server has for the judge")
    if bool(OUTPUTS.value) != bool(REFERENCE.value) or bool(ANSWERS.value) != bool(QUESTIONS.value):
        raise ValueError("--outputs go with --reference, --answers with --questions")
    if not OUTPUTS.value and not ANSWERS.value:
        raise ValueError("nothing to compare: --outputs with --reference, or --answers with --questions")
    if ANSWERS.value and not ENDPOINT.value:
        raise ValueError("--answers are rated by a chat model: they need --endpoint")


def open_endpoint() -> ChatEndpoint:
    key = os.environ.get(KEY.value, "") if KEY.value else ""
    server = Server(ENDPOINT.value, TIMEOUT.value, RETRIES.value, BACKOFF.value, CONCURRENCY.value, key)
    cache = AnswerCache(CACHE.value or Path(OUT.value).with_suffix(".cache.jsonl"))
    return ChatEndpoint(server, ENDPOINT_MODEL.value, cache)


def open_pair_judge(endpoint: ChatEndpoint | None) -> Judge:
    if endpoint is not None:
        return ChatJudge(endpoint, PAIR_PROMPTS[PROMPT.value], TOP_LOGPROBS if WEIGHING.value == "weighed" else 0)
    declared = dict(item.partition("=")[::2] for item in DECLARE.value)
    if "tau" in declared:
        declared["tau"] = float(declared["tau"])
    return open_judge(JudgePlan(JUDGE.value, declared, MAX_LENGTH.value, ROWS.value, DTYPE.value))


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


def run() -> dict:
    """Everything that the flags ask for; the summary, which is also on disk."""
    check_flags()
    with owned_output(OUT.value, (".json",)):
        return compare_all()


def compare_all() -> dict:
    """The work itself, when the flags are known to go together."""
    prices = Prices(PROMPT_PRICE.value, COMPLETION_PRICE.value)
    endpoint = open_endpoint() if ENDPOINT.value else None
    summary = {}
    if OUTPUTS.value:
        judge = open_pair_judge(endpoint)
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
    logging.set_verbosity(logging.WARNING)  # jax tells of every backend that is not there
    try:
        summary = run()
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


if __name__ == "__main__":
    app.run(main)
