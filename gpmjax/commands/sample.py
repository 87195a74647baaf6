"""Draw responses to a prompt, and have a preference model compare them if one is given:

    gpmjax sample --model=smollm2 --prompt="Why is the sky blue?" --samples=4 --max_new_tokens=64
    gpmjax sample --model=smollm2 --prompt="Name a colour." --samples=4 --scorer=runs/gpm/model

Below each response: its length in tokens, and its mean log-probability per token in nats under the distribution it was
drawn from. With --scorer, the K×K table of scores s(row ≻ column).
"""

import sys

import jax
from absl import flags, logging
from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gpmjax import hub
from gpmjax.config.judge import ScorerConfig
from gpmjax.data.chat import TEMPLATES, ChatFormat
from gpmjax.data.groups import Group, user
from gpmjax.judges.judge import Verdict
from gpmjax.judges.open import open_scorer
from gpmjax.models.attention.grouped_query import preferred
from gpmjax.models.config import DTYPES, Runtime
from gpmjax.models.transformer import Decoder
from gpmjax.sampling.logits import SamplingPlan
from gpmjax.sampling.rollout import LocalRollout, Rollouts
from gpmjax.sharding import make_mesh, place_leaf

MODEL = flags.DEFINE_string("model", "smollm2", '"smollm2", a model directory, a .gguf file or a hub id.')
PROMPT = flags.DEFINE_string("prompt", None, "What to answer, one user message.", required=True)
TOKENIZER = flags.DEFINE_string("tokenizer", "", "Where the tokenizer comes from; empty: from --model.")
SAMPLES = flags.DEFINE_integer("samples", 4, "Responses to draw.", 1)
LENGTH = flags.DEFINE_integer("max_new_tokens", 64, "Tokens of a response.", 1)
TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "Logits are divided by it; 0 is greedy.", 0.0)
TOP_K = flags.DEFINE_integer("top_k", 0, "Draw from the k likeliest tokens; 0: from all.", 0)
TOP_P = flags.DEFINE_float("top_p", 0.9, "Draw from the likeliest tokens that make up this probability.", 0.0, 1.0)
SEED = flags.DEFINE_integer("seed", 0, "The same seed draws the same responses.", 0)
TEMPLATE = flags.DEFINE_enum("template", "chat", TEMPLATES, "How the prompt becomes text.")
DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "What the model computes in.")
SCORER = flags.DEFINE_string("scorer", None, "A preference model that compares the responses.")


def draw_responses() -> tuple[Rollouts, Verdict | None]:
    """The responses that the flags ask for, and their scores."""
    plan = SamplingPlan(LENGTH.value, TEMPERATURE.value, TOP_K.value, TOP_P.value).validate()
    # One prompt is one row: nothing to split.
    mesh = make_mesh(devices=jax.devices()[:1])
    source = hub.open_source(MODEL.value)
    chat = ChatFormat(hub.tokenizer_for(source, TOKENIZER.value), template=TEMPLATE.value)
    params = hub.load_decoder(source, place=place_leaf(mesh), saved_heads="drop")
    model = Decoder(source.config, Runtime(dtype=DTYPE.value, attention=preferred()))
    (rollouts,) = LocalRollout(model, params, chat, plan, SAMPLES.value, mesh)([user(PROMPT.value)], SEED.value)
    if SCORER.value is None:
        return rollouts, None
    scorer = open_scorer(
        ScorerConfig(model=SCORER.value, template=TEMPLATE.value, dtype=DTYPE.value, attention=preferred()), mesh
    )
    (verdict,) = scorer([Group(user(PROMPT.value), tuple(rollouts.texts), where="--prompt")], "all")
    return rollouts, verdict


def panels(rollouts: Rollouts):
    """A box for each response."""
    columns = zip(rollouts.texts, rollouts.logprobs, rollouts.stopped, strict=True)
    for number, (text, logprobs, stopped) in enumerate(columns, 1):
        ended = "" if stopped else ", cut"
        below = f"{len(logprobs)} tokens{ended}, {logprobs.mean():.2f} nats a token"
        yield Panel(Text(text), title=f"response {number}", subtitle=below, title_align="left", subtitle_align="right")


def score_table(verdict: Verdict) -> Table:
    """s(row ≻ column) of every pair, and each response's mean ŝ, its own 0 included."""
    table = Table(title=f"s(row ≻ column), τ = {verdict.tau:g}", box=box.SIMPLE)
    for name in ("", *map(str, range(1, len(verdict.scores) + 1)), "mean"):
        table.add_column(name, justify="right")
    for number, row in enumerate(verdict.scores, 1):
        table.add_row(str(number), *(f"{score:+.3f}" for score in row), f"{row.mean():+.3f}")
    return table


def main(_: list[str]) -> None:
    """Prints the responses, and their scores if a scorer is named."""
    logging.set_verbosity(logging.WARNING)  # jax tells of every backend that is not there
    try:
        rollouts, verdict = draw_responses()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    console = Console()
    console.print(*panels(rollouts), sep="\n")
    if verdict is not None:
        console.print(score_table(verdict))
