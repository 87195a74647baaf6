"""Have a policy answer AlpacaEval's instructions, or both turns of MT-Bench's questions:

    gpmjax answer --model=runs/gpo/policy --instructions=alpaca_eval.json --generator=gpo --out=gpo.json
    gpmjax answer --model=runs/gpo/policy --questions=question.jsonl --generator=gpo --out=gpo.jsonl
    gpmjax answer --model=DIR --endpoint=http://localhost:8000/v1 --endpoint_model=gpo --instructions=…

Answers are drawn here, or by a server (vLLM, SGLang) that holds the policy, whose tokenizer --model then names. They go
to OUT.rows.jsonl as they come, and whole, in the benchmark's format, to OUT at the end; the same command goes on where
an interrupted one stopped.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

from absl import flags, logging

from gpmjax import hub
from gpmjax.data.chat import TEMPLATES, ChatFormat
from gpmjax.evals.policies.answering import Task, TurnReply, answer, tasks_identity
from gpmjax.evals.policies.mt_bench import answer_record, read_questions
from gpmjax.evals.policies.outputs import read_instructions, write_records
from gpmjax.evals.result_files import rows_path
from gpmjax.files import fingerprint
from gpmjax.models.attention.grouped_query import preferred
from gpmjax.models.config import DTYPES, Runtime
from gpmjax.models.transformer import Decoder
from gpmjax.owner import owned_output
from gpmjax.sampling.endpoint import HttpRollout
from gpmjax.sampling.http import Server
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import LocalRollout
from gpmjax.sharding import make_mesh, place_leaf

MODEL = flags.DEFINE_string("model", None, '"smollm2", a model directory, a .gguf file or a hub id.', required=True)
TOKENIZER = flags.DEFINE_string("tokenizer", "", "Where the tokenizer comes from; empty: from --model.")
INSTRUCTIONS = flags.DEFINE_string("instructions", None, "A file with an instruction a row, such as AlpacaEval's.")
QUESTIONS = flags.DEFINE_string("questions", None, "MT-Bench's questions, of two turns.")
OUT = flags.DEFINE_string("out", None, "The answers, ending in .json or .jsonl.", required=True)
GENERATOR = flags.DEFINE_string("generator", None, "The policy's name in the answers; by default --model.")
LIMIT = flags.DEFINE_integer("limit", 0, "Answer this many of the first; 0: all.", 0)
LENGTH = flags.DEFINE_integer("max_new_tokens", 1024, "Tokens of an answer.", 1)
TEMPERATURE = flags.DEFINE_float(
    "temperature", None, "0 is greedy; by default 0.7, and each category's own in MT-Bench.", 0.0
)
TOP_P = flags.DEFINE_float("top_p", 0.9, "Draw from the likeliest tokens that make up this probability.", 0.0, 1.0)
SEED = flags.DEFINE_integer("seed", 0, "The same seed draws the same answers.", 0)
TEMPLATE = flags.DEFINE_enum("template", "chat", TEMPLATES, "How the prompt becomes text.")
DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "What the model computes in.")
ROWS = flags.DEFINE_integer("rows", 8, "Prompts of a batch; changes memory and speed.", 1)
ENDPOINT = flags.DEFINE_string("endpoint", None, "A server of completions that holds the policy: http://…/v1")
ENDPOINT_MODEL = flags.DEFINE_string("endpoint_model", None, "The name that it has for the policy.")
TIMEOUT = flags.DEFINE_float("timeout", 600.0, "Seconds that a request to it may be silent for.")
RETRIES = flags.DEFINE_integer("retries", 4, "How often a failed request to it is sent again.")

USUAL_TEMPERATURE = 0.7


class Questions(NamedTuple):
    """What is asked, and what an answer to it looks like."""

    tasks: list[Task]
    records: Callable[[list[tuple[TurnReply, ...]], str], list[dict]]
    """From the replies, and the policy's name."""
    malformed: list[str]


def instructions() -> Questions:
    """Those of --instructions: one turn each, answered in AlpacaEval's format."""
    rows, malformed = read_instructions(INSTRUCTIONS.value)
    rows = rows[: LIMIT.value or None]
    temperature = USUAL_TEMPERATURE if TEMPERATURE.value is None else TEMPERATURE.value

    def records(replies, name):
        for row, (said,) in zip(rows, replies, strict=True):
            record = {"instruction": row.instruction, "output": said.text, "generator": name}
            yield record | ({"dataset": row.dataset} if row.dataset else {})

    tasks = [Task((row.instruction,), temperature, row.where) for row in rows]
    return Questions(tasks, lambda *given: list(records(*given)), malformed)


def questions() -> Questions:
    """Those of --questions: MT-Bench's, of several turns."""
    rows, malformed = read_questions(QUESTIONS.value)
    rows = rows[: LIMIT.value or None]

    def records(replies, name):
        for row, said in zip(rows, replies, strict=True):
            yield answer_record(row.id, name, [turn.text for turn in said], said[-1].seconds)

    def temperature(row):
        return row.temperature if TEMPERATURE.value is None else TEMPERATURE.value

    tasks = [Task(row.turns, temperature(row), row.where) for row in rows]
    return Questions(tasks, lambda *given: list(records(*given)), malformed)


def open_rollout() -> tuple[LocalRollout | HttpRollout, dict]:
    """The policy that the flags name, and all that could move an answer of it but the task."""
    plan = SamplingPlan(LENGTH.value, top_p=TOP_P.value).validate()
    identity = {flag.name: flag.value for flag in (LENGTH, TOP_P, SEED, TEMPLATE, DTYPE, ENDPOINT, ENDPOINT_MODEL)}
    if ENDPOINT.value:
        chat = ChatFormat(hub.load_tokenizer(TOKENIZER.value or MODEL.value), template=TEMPLATE.value)
        server = Server(ENDPOINT.value, timeout=TIMEOUT.value, retries=RETRIES.value)
        return HttpRollout(server, ENDPOINT_MODEL.value, chat, plan, samples=1), {
            **identity,
            "tokenizer": TOKENIZER.value or MODEL.value,
        }
    source = hub.open_source(MODEL.value)
    chat = ChatFormat(hub.tokenizer_for(source, TOKENIZER.value), template=TEMPLATE.value)
    if TOKENIZER.value:
        identity["tokenizer"] = TOKENIZER.value
    # Whole on every device: split weights would travel at every token.
    mesh = make_mesh(data=-1, fsdp=1)
    params = hub.load_decoder(source, place=place_leaf(mesh), saved_heads="drop")
    model = Decoder(source.config, Runtime(dtype=DTYPE.value, attention=preferred()))
    return LocalRollout(model, params, chat, plan, 1, mesh, ROWS.value), {
        **identity,
        "model": fingerprint(source.files),
    }


def answer_questions() -> None:
    """Everything that the flags ask for; the answers are on disk then."""
    if bool(INSTRUCTIONS.value) == bool(QUESTIONS.value):
        raise ValueError("one benchmark is needed: --instructions or --questions")
    if bool(ENDPOINT.value) != bool(ENDPOINT_MODEL.value):
        raise ValueError("--endpoint goes with --endpoint_model, the name that the server has for the policy")
    with owned_output(OUT.value, (".json", ".jsonl")):
        answer_all()


def answer_all() -> None:
    """The work itself, when the flags are known to go together."""
    asked = instructions() if INSTRUCTIONS.value else questions()
    rollout, identity = open_rollout()
    identity["tasks"] = tasks_identity(asked.tasks)
    replies = answer(asked.tasks, rollout, SEED.value, rows_path(OUT.value), identity)
    records = asked.records(replies, GENERATOR.value or MODEL.value)
    write_records(OUT.value, records)
    cut = sum(not turn.stopped for said in replies for turn in said)
    print(
        f"{len(records)} answers in {OUT.value}" + (f"; {cut} replies were cut at {LENGTH.value} tokens" if cut else "")
    )
    for line in asked.malformed:
        print(f"left out: {line}", file=sys.stderr)


def main(_: list[str]) -> None:
    """Writes the answers, and continues a file that has some of them."""
    logging.set_verbosity(logging.WARNING)  # jax tells of every backend that is not there
    try:
        answer_questions()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it stopped")
