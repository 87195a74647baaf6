"""Every command that README and docs write down would be accepted: program, config, flags and their values."""

import json
import os
import re
import subprocess
import sys

import pytest

from gpmjax.config import Config, ImproveConfig
from gpmjax.config.overrides import unknown_override
from gpmjax.data.formats import parse_entry
from tests.docs.pages import FENCE, PAGES, ROOT, SHELL, Command, blocks, commands, name_of, shell_words

PARSE = ROOT / "tests" / "docs" / "parse_commands.py"
TOOLS = {"gpmjax", "make", "pip", "git", "cd", "python"}
OTHERS = {"--worker", "--reward.remote_url", "--help", "--config.model.dimm", "--config.a.b", "--data.train"}
"""What sentences name of other programs, and as an example of a slip."""
PARTS = "model|data|loss|optimizer|mesh|distributed|checkpoint|rollout|scorer|prompts|policy|judge"
FOUND = [command for page in PAGES for command in commands(page)]
SCRIPTS = [command for command in FOUND if command.words[0] == "python" and command.words[1] != "-m"]
OURS = SCRIPTS + [command for command in FOUND if command.words[0] == "gpmjax" and command.words[1][0] != "-"]


def answers(asked):
    """What parse_commands.py says of each command and mode."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, PARSE]
    done = subprocess.run(
        command, input=json.dumps(asked), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def asked_of(found):
    """Each command with its mode; words after ``--`` are launch/train.py's."""
    asked = []
    for command in found:
        cut = command.words.index("--") if "--" in command.words else len(command.words)
        mode = "whole" if command.whole else "part"
        asked.append((command.words[:cut], mode))
        if rest := command.words[cut + 1 :]:
            asked.append((["python", "launch/train.py", *rest], mode))
    return asked


WRONG = (
    "python launch/evaluate.py --data=a.jsonl --modle=b",
    "python launch/evaluate.py --data=a --order=backwards",
    "python launch/train.py --workdir=w --config=configs/demo.py --config.model.dimm=2",
)


@pytest.fixture(scope="module")
def said():
    """What programs say of the pages' commands and of wrong ones, and their flags; asked in one process."""
    programs = [str(path.relative_to(ROOT)) for path in (ROOT / "launch").rglob("*.py")]
    parts = {
        "pages": asked_of(OURS),
        "wrong": asked_of(Command("", words, True) for line in WRONG for words in shell_words(line)),
        "flags": [(["python", program], "flags") for program in programs],
    }
    texts = iter(answers([command for part in parts.values() for command in part]))
    return {name: [(" ".join(words), next(texts)) for words, _ in part] for name, part in parts.items()}


@pytest.fixture(scope="module")
def flag_names(said):
    """Every flag of every program in launch/, and what programs in benchmarks/ define."""
    measurements = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").rglob("*.py"))
    known = {name for _, text in said["flags"] for name in text.split()}
    return known | set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', measurements))


def test_every_command_of_ours_is_accepted(said):
    assert len(OURS) > 60
    assert [command for command in SCRIPTS if not (ROOT / command.words[1]).is_file()] == []
    assert [complaint for complaint in said["pages"] if complaint[1]] == []


def test_a_wrong_command_is_noticed(said):
    assert all(text for _, text in said["wrong"]) and len(said["wrong"]) == len(WRONG)


def test_other_commands_name_what_there_is():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    setup = (ROOT / "setup.cfg").read_text()
    for place, words, _ in FOUND:
        assert words[0] in TOOLS, (place, words)
        if words[0] == "make":
            assert set(words[1:]) <= set(targets), (place, words)
        for extra in re.findall(r"\.\[([a-z,]+)\]", " ".join(words)):
            assert all(f"\n{name} =\n" in setup for name in extra.split(",")), (place, extra)
        if words[:3] == ["python", "-m", "pytest"]:
            assert all((ROOT / word).exists() for word in words[3:] if not word.startswith("-")), place


def is_field(flag):
    """Whether ``--config.a.b`` names a field of either kind of config."""
    return not all(unknown_override(config, flag) for config in (Config(), ImproveConfig()))


def test_flags_and_fields_in_sentences_exist(flag_names):
    wrong = []
    for page in PAGES:
        prose = FENCE.sub("", page.read_text(encoding="utf-8")) if page.name != "CHANGELOG.md" else ""
        for code in re.findall(r"`([^`]+)`", prose):
            named = [flag.rstrip(".") for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*", code)]
            if field := re.fullmatch(rf"({PARTS})\.([a-z_0-9]+)(=\S+)?", code):
                named.append(f"--config.{field[1]}.{field[2]}")
            for flag in set(named) - OTHERS:
                known = is_field(flag) if flag.startswith("--config.") else flag[2:] in flag_names
                wrong += [] if known else [(name_of(page), flag)]
    assert wrong == []


def test_every_block_has_a_language_that_is_checked():
    known = {*SHELL, "python", "json", ""}
    assert [
        (name_of(page), block.line) for page in PAGES for block in blocks(page) if block.language not in known
    ] == []


def test_every_json_block_is_rows_that_are_read():
    rows = [
        line for page in PAGES for block in blocks(page) if block.language == "json" for line in block.code.splitlines()
    ]
    assert len(rows) >= 4 and all(parse_entry(json.loads(row), "page").comparisons for row in rows)
