"""Runs the code of pages as a reader would: ``python tests/docs/run_pages.py [--commands] [--change=OLD=>NEW] PAGE …``.

Each page runs in the current directory and in a namespace of its own, its Python blocks in order. With --commands the
commands of ``bash`` blocks run as well (those of ``sh`` blocks are only shown), each in a fork of this process, so that
the libraries are imported once. --change replaces a text of the page, and is an error where the page does not hold it.
"""

import importlib
import os
import runpy
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pages import ROOT, blocks, shell_words


def run_command(words: list[str]) -> None:
    """Runs ``python PROGRAM …`` in a fork; ends this process when it fails."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(f"{shlex.join(words)}: exit status {status}")
        return
    status = 1
    try:
        sys.argv, sys.path[0] = words[1:], str(ROOT / "launch")
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        print(end.code or "", file=sys.stderr)
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


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
    if "--commands" in options:
        importlib.import_module("gpmjax.fit.fit")  # what the commands import, before the first fork
    for page in arguments[len(options) :]:
        print(f"== {page}", flush=True)
        run_page(Path(page), dict(changes), "--commands" in options)


if __name__ == "__main__":
    main(sys.argv[1:])
