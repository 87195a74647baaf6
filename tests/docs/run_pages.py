"""Runs the code of pages as a reader would: ``python tests/docs/run_pages.py [--commands] [--change=OLD=>NEW] PAGE …``.

Each page runs in the current directory and in a namespace of its own, its Python blocks in order. With --commands the
commands of ``bash`` blocks run as well (those of ``sh`` blocks are only shown), as tests/launch/programs.py runs them.
--change replaces a text of the page, and is an error where the page does not hold it.
"""

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[2]))

from pages import ROOT, blocks, shell_words

from tests.launch.programs import run_program


def run_command(words: list[str]) -> None:
    """Runs ``python PROGRAM …`` and shows what it prints; ends this process when it fails."""
    done = run_program(ROOT / words[1], *words[2:], cwd=Path.cwd())
    print(done.stdout, end="", flush=True)
    print(done.stderr, end="", file=sys.stderr, flush=True)
    if done.returncode:
        sys.exit(f"{shlex.join(words)}: exit status {done.returncode}")


def run_page(page: Path, changes: dict[str, str], with_commands: bool) -> None:
    namespace = {"__name__": "page"}
    for block in blocks(page):
        code = block.code
        for old in [old for old in changes if old in code]:
            code = code.replace(old, changes.pop(old))
        if block.language == "python":
            # Lines of errors are those of the page.
            exec(compile("\n" * (block.line - 1) + code, page, "exec"), namespace)
        elif block.language == "bash" and with_commands:
            for words in shell_words(code):
                run_command(words)
    if changes:
        sys.exit(f"{page}: does not hold {list(changes)}")


def main(arguments: list[str]) -> None:
    options = [argument for argument in arguments if argument.startswith("--")]
    changes = dict(option.removeprefix("--change=").split("=>") for option in options if option.startswith("--change="))
    for page in arguments[len(options) :]:
        print(f"== {page}", flush=True)
        run_page(Path(page), dict(changes), "--commands" in options)


if __name__ == "__main__":
    main(sys.argv[1:])
