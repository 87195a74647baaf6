"""Looks for the mistakes that spoil a preference data set; exits 1 when there is one.

    python launch/lint_data.py --data=pairs.jsonl.gz [--tokenizer=DIR] [--max_length=2048] [--template=raw]
"""

import sys

from absl import app, flags
from rich.console import Console
from rich.table import Table

from gpmjax.data.chat import TEMPLATES, ChatFormat
from gpmjax.data.lint import Finding, lint
from gpmjax.hub import load_tokenizer

DATA = flags.DEFINE_string("data", None, "A file, hub id or builtin: game; ?column=value selects rows.", required=True)
TOKENIZER = flags.DEFINE_string("tokenizer", "smollm2", "A model directory, .gguf file, hub id, or 'smollm2'.")
MAX_LENGTH = flags.DEFINE_integer("max_length", 2048, "Tokens of a prompt with one response; of longer ones the excess is cut, the response last.")
TEMPLATE = flags.DEFINE_enum("template", "chat", TEMPLATES, "The tokenizer's chat template, or prompt and newline.")

_COLOURS = {"error": "red", "warning": "yellow", "info": "dim"}


def show(source: str, findings: list[Finding]) -> None:
    """Prints the findings as a table."""
    table = Table("level", "check", "count", "detail", title=source)
    for level, check, count, detail in findings:
        table.add_row(f"[{_COLOURS[level]}]{level}", check, str(count), _escaped(detail))
    Console().print(table)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")  # rich reads [brackets] as markup


def main(_: list[str]) -> None:
    try:
        chat = ChatFormat(load_tokenizer(TOKENIZER.value), TEMPLATE.value)
        findings = lint(DATA.value, chat, max_length=MAX_LENGTH.value)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    show(DATA.value, findings)
    sys.exit(int(any(finding.level == "error" for finding in findings)))


if __name__ == "__main__":
    app.run(main)
