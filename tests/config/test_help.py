"""``--help`` shows every field of a config with its type, value, default and text; a wrong value ends in one line."""

import dataclasses
from pathlib import Path

import pytest

from gpmjax.config import Config, HeadConfig, ImproveConfig, ModelConfig
from gpmjax.config.help import config_help, field_texts
from gpmjax.models.spec import PreferenceSpec
from tests.launch.programs import run_program

ROOT = Path(__file__).parents[2]


def parts(config):
    """A config and every config within it."""
    yield config
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(value := getattr(config, field.name)):
            yield from parts(value)


@pytest.mark.parametrize(
    "config", [*parts(Config()), *parts(ImproveConfig())], ids=lambda config: type(config).__name__
)
def test_every_field_is_documented(config):
    texts = field_texts(type(config))
    assert texts.keys() == {field.name for field in dataclasses.fields(config)}
    values = [name for name in texts if not dataclasses.is_dataclass(getattr(config, name))]
    assert [name for name in values if not texts[name].text] == []
    assert not type(config).__doc__.startswith(type(config).__name__ + "("), "dataclass made this docstring"


def test_a_field_shows_its_type_its_value_the_default_and_its_text():
    text = config_help(Config(model=ModelConfig(mlp_widths=(8, 4))))
    assert "--config.model.mlp_widths: tuple[int, ...] = (8, 4) (default ())\n    Hidden widths of an MLP head" in text
    assert "--config.model.kind: str = 'gpm'\n    \"gpm\" (general preference model)" in text  # PreferenceSpec's text
    assert "\n--config.checkpoint: When a run saves" in text


def test_a_heads_fields_and_defaults_are_the_specs_but_for_two():
    mine, saved = ({f.name: f.default for f in dataclasses.fields(cls)} for cls in (HeadConfig, PreferenceSpec))
    assert list(mine) == list(saved)
    assert {name for name in mine if mine[name] != saved[name]} == {"dim", "gate"}
    assert ModelConfig(dim=6, gate="softmax").spec() == PreferenceSpec()


def run(*arguments):
    return run_program(ROOT / "launch" / "train.py", *arguments)


def test_help_of_the_program_lists_the_fields_of_a_file_or_of_both_configs():
    done = run(f"--config={ROOT / 'configs' / 'demo.py'}", "--help")
    assert done.returncode == 0 and "--workdir" in done.stdout, done.stderr
    assert "--config.steps: int = 400 (default 0)" in done.stdout and "--config.iterations" not in done.stdout
    done = run("--help")
    assert done.returncode == 0 and "--config.steps: int = 0\n" in done.stdout
    assert "--config.iterations: int = 3\n    Iterations of" in done.stdout


def test_an_override_of_the_wrong_type_is_refused_in_one_line(tmp_path):
    done = run(f"--config={ROOT / 'configs' / 'demo.py'}", f"--workdir={tmp_path / 'run'}", "--config.model.dim=two")
    assert done.returncode == 1 and not (tmp_path / "run").exists()
    assert done.stderr == "error: --config.model.dim=two: invalid literal for int() with base 10: 'two'\n"
