"""Checks a preference data set for mistakes; exits with 1 if there is an error.

gpmjax lint --data=pairs.jsonl.gz [--tokenizer=DIR] [--max_length=2048] [--template=raw]
"""

import sys

from absl import flags
from rich.console import Console
from rich.table import Table

from gpmjax.data.chat import TEMPLATES, ChatFormat
from gpmjax.data.lint import Finding, lint
from gpmjax.hub import load_tokenizer

DATA = flags.DEFINE_string(
    "data", None, "A file, hub id or builtin: game; ?column=value selects entries.", required=True
)
TOKENIZER = flags.DEFINE_string("tokenizer", "smollm2", "A model directory, .gguf file, hub id, or 'smollm2'.")
MAX_LENGTH = flags.DEFINE_integer(
    "max_length", 2048, "Most tokens of a prompt with one response; longer sequences are cut, the prompt first."
)
TEMPLATE = flags.DEFINE_enum(
    "template", "chat", TEMPLATES, "chat: the tokenizer's chat template; raw: prompt, newline, response."
)

NARROW = 120
"""Columns of a console below which the findings are printed as lines, because a table would break words."""

_COLOURS = {"error": "red", "warning": "yellow", "info": "dim"}


def show_findings(source: str, findings: list[Finding], console: Console) -> None:
    """Prints the findings as a table, or one a line if the console is narrow."""
    if console.width < NARROW:
        for level, check, count, detail in findings:
            line = f"[{_COLOURS[level]}]{level}[/]: {check} ({count}): {_escaped(detail)}"
            console.print(line, soft_wrap=True, highlight=False)
        return
    table = Table("level", "check", "count", title=_escaped(source))
    table.add_column("detail", overflow="fold")
    for level, check, count, detail in findings:
        table.add_row(f"[{_COLOURS[level]}]{level}", check, str(count), _escaped(detail))
    console.print(table)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")  # rich reads [brackets] as markup


def main(_: list[str]) -> None:
    """Prints the findings; exits with 1 where one is an error."""
    try:
        chat = ChatFormat(load_tokenizer(TOKENIZER.value), TEMPLATE.value)
        findings = lint(DATA.value, chat, max_length=MAX_LENGTH.value)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    show_findings(DATA.value, findings, Console())
    sys.exit(int(any(finding.level == "error" for finding in findings)))
