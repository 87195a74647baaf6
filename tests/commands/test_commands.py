"""The ``gpmjax`` command: what it lists, what it refuses, and how it finds configs and devices."""

from pathlib import Path

import jax
import pytest

from gpmjax import commands
from gpmjax.config.file import config_directory, named_config
from gpmjax.config.overrides import with_the_file
from tests.launch.programs import command_of, run_program

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "gpmjax" / "commands" / "__main__.py"


def gpmjax(*arguments):
    return run_program(MAIN, *arguments)


def test_it_lists_its_commands_and_refuses_others():
    assert commands.usage() in gpmjax("--help").stdout
    refused = gpmjax("trian")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: gpmjax trian: no such command; there are demo, lint,")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_help_with_an_example(name):
    done = gpmjax(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"gpmjax {name}" in done.stdout.split("flags:")[0]
    assert ("--config.loss.curl: str" in done.stdout) == (name in commands.WITH_CONFIG)


def test_every_script_of_a_clone_runs_a_command():
    scripts = {command_of(path) for path in ROOT.glob("launch/*.py")}
    assert scripts == commands.COMMANDS.keys() - {"doctor"}


def test_doctor_prints_what_is_installed():
    done = gpmjax("doctor")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if len(line.split(maxsplit=1)) == 2)
    assert lines["jax"] == jax.__version__ and lines["attention=auto"] == "blockwise"
    assert str(ROOT / "gpmjax") in lines["gpmjax"] and "cpu" in lines["devices"]


def test_configs_are_found_by_name_and_paths_stay_paths(tmp_path, monkeypatch):
    assert config_directory() == ROOT / "configs"
    assert named_config("gpm_smollm2") == ROOT / "configs" / "gpm_smollm2.py"
    assert named_config("nothing_of_ours") == Path("nothing_of_ours")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("", encoding="utf-8")
    assert named_config("demo") == Path("demo")
    assert named_config("configs/demo.py") == Path("configs/demo.py")


def test_a_name_is_replaced_wherever_the_command_line_has_it():
    file = str(ROOT / "configs" / "bt_smollm2.py")
    given = ["--config=bt_smollm2", "--workdir=bt_smollm2", "-config", "bt_smollm2", "--config.model.dim=4"]
    found = [f"--config={file}", "--workdir=bt_smollm2", "-config", file, "--config.model.dim=4"]
    assert with_the_file(given, "bt_smollm2") == found
    assert with_the_file(["--config=bt_smollm2:small"], "bt_smollm2:small") == [f"--config={file}:small"]


@pytest.mark.parametrize(("vendors", "packages", "platforms", "found"), [
    ((), {"libtpu"}, None, True),
    (("0x8086",), {"libtpu"}, None, True),
    (("0x8086", "0x1ae0"), {"libtpu"}, None, False),
    ((), set(), None, False),
    ((), {"libtpu", "jax_cuda13_plugin"}, None, False),
    ((), {"libtpu"}, "tpu", False),
])  # fmt: skip
def test_jax_looks_for_tpus_only_where_there_may_be_one(tmp_path, monkeypatch, vendors, packages, platforms, found):
    for n, vendor in enumerate(vendors):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "vendor").write_text(f"{vendor}\n", encoding="utf-8")
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda name: name in packages or None)
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", platforms)
    try:
        assert commands.without_tpu(tmp_path) is found
    finally:
        jax.config.update("jax_platforms", before)
