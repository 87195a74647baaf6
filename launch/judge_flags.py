"""The flags that say which model judges and how it is read; what launch/evaluate.py and launch/diagnose.py share."""

from absl import flags

from gpmjax.data.chat import TEMPLATES
from gpmjax.data.questions import ORDERS
from gpmjax.judges.open import JudgePlan
from gpmjax.judges.pairwise import SYMMETRIES
from gpmjax.judges.rationales import VOTES, RationalePlan
from gpmjax.models.attention.grouped_query import AUTO
from gpmjax.models.config import ATTENTIONS, DTYPES
from gpmjax.models.spec import GATE_PLACES, GATES, HEADS, KINDS, MLP_ACTIVATIONS, NORMALISATIONS

MODEL = flags.DEFINE_string("model", None, "Model directory, hub id or .gguf file.")
TOKENIZER = flags.DEFINE_string(
    "tokenizer", "", "Where the tokenizer comes from: a directory, .gguf file or hub id; empty: from --model."
)
MAX_LENGTH = flags.DEFINE_integer(
    "max_length",
    0,
    "Tokens of a prompt with one response; of longer ones the excess is cut, the response last. 0: 2048, or the model's positions where it has fewer.",
    0,
)
ROWS = flags.DEFINE_integer(
    "rows_per_batch", 8, "Rows of a batch; changes memory and speed; float32 scores by 1e-5 of the largest at most.", 1
)
DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "What the backbone computes in.")
TEMPLATE = flags.DEFINE_enum("template", "chat", TEMPLATES, "How prompt and response become text.")
ATTENTION = flags.DEFINE_enum(
    "attention",
    AUTO,
    (AUTO, *ATTENTIONS),
    "How it is computed: flash or blockwise for long texts; auto: blockwise on CPUs, else xla.",
)
FEATURE_CACHE = flags.DEFINE_string(
    "feature_cache",
    "",
    "Directory that keeps the backbone's hidden states; models with heads on equal backbones share them.",
)
ORDER = flags.DEFINE_enum(
    "order", "both", ORDERS, "Of the two responses put to a pairwise model; shuffled: half the work."
)
SYMMETRY = flags.DEFINE_enum("symmetry", "average", SYMMETRIES, "Scores of a pairwise model asked in both orders.")
RATIONALES = flags.DEFINE_integer(
    "rationales", 0, "Sample so many before each verdict (GenRM-CoT); 0: answer at once.", 0
)
VOTE = flags.DEFINE_enum(
    "vote", "mean", VOTES, "Of the rationales' verdicts: their mean probability, or the majority's share."
)
RATIONALE_TOKENS = flags.DEFINE_integer("rationale_tokens", 128, "At most so many tokens a rationale.", 1)
TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "At which rationales are sampled.", 0)
# Declarations, for checkpoints that make none.
DECLARED = {
    "kind": flags.DEFINE_enum("kind", None, KINDS, "Which kind of preference model it is."),
    "gate": flags.DEFINE_enum("gate", None, GATES, "How the scale gate's logits are read."),
    "normalise": flags.DEFINE_enum("normalise", None, NORMALISATIONS, "Whether embeddings have unit length."),
    "tau": flags.DEFINE_float("tau", None, "Temperature of the probability σ(s/τ)."),
    "head": flags.DEFINE_enum(
        "head", None, HEADS, "What is read; verdict: the next token's log-odds, of any language model."
    ),
    "question": flags.DEFINE_string("question", None, "What it is asked: yes_or_no, a_or_b, …, or a template."),
    "verdicts": flags.DEFINE_list(
        "verdicts", None, "The two answers that a verdict head compares, the favourable one first."
    ),
    "gate_at": flags.DEFINE_enum(
        "gate_at", None, GATE_PLACES, "Where the gate is read; the published code: after the first message."
    ),
    "bos_tokens": flags.DEFINE_integer(
        "bos_tokens", None, "BOS that a sequence begins with; the published recipe trained with 2.", 0, 2
    ),
    "mlp_activation": flags.DEFINE_enum("mlp_activation", None, list(MLP_ACTIVATIONS), "Activation of an MLP head."),
}


def judge_plan() -> JudgePlan:
    """The plan that the flags make."""
    thinking = RationalePlan(RATIONALES.value, RATIONALE_TOKENS.value, TEMPERATURE.value, vote=VOTE.value)
    return JudgePlan(
        model=MODEL.value,
        declare={name: flag.value for name, flag in DECLARED.items() if flag.value is not None},
        max_length=MAX_LENGTH.value,
        rows_per_batch=ROWS.value,
        dtype=DTYPE.value,
        template=TEMPLATE.value,
        attention=ATTENTION.value,
        feature_cache=FEATURE_CACHE.value,
        tokenizer=TOKENIZER.value,
        order=ORDER.value,
        symmetry=SYMMETRY.value,
        rationales=thinking if RATIONALES.value else None,
    )
