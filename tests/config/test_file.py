"""A config file that cannot be used is answered in one line that names it, and the line of it that is wrong."""

import sys

import pytest

from gpmjax.config import Config, ImproveConfig, MeshConfig, load_config
from gpmjax.config.overrides import parse_flags

HEADER = "from gpmjax.config import *\n"
WRONG = {
    "x = 1": "has no function get_config()",
    "get_config = 3": "has no function get_config()",
    "def get_config(): pass": "get_config() returned None; it must return a gpmjax.config.Config or",
    "def get_config(): return 3": "get_config() returned 3 (int); it must return a",
    "def get_config(): return Config": "get_config() returned <class 'gpmjax.config.fit.Config'> (type)",
    "def get_config():\n    c = Config()\n    c.model.dimm = 4\n    return c": (
        "config.model.dimm: no such field; config.model has source,"
    ),
    "def get_config():\n    return Config(model=ModelConfig(dimm=4))": (
        ":3: TypeError: ModelConfig.__init__() got an unexpected keyword argument 'dimm'"
    ),
    "def get_config():\n    return 1 / 0": ":3: ZeroDivisionError: division by zero",
    "def get_config():\n    raise KeyError('two\\nlines')": ":3: KeyError: 'two",
    "def get_config():\n    raise RuntimeError('two\\nlines')": ":3: RuntimeError: two lines",
    "def get_config(:": ":2: SyntaxError: ",
    "import nothing_there": ":2: ModuleNotFoundError: No module named 'nothing_there'",
    "\0": "SyntaxError: source code ",
    "def get_config(): return neighbour(__file__, 'nowhere.py')": "nowhere.py: no such config file",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_config_file_that_gives_no_config_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "wrong.py"
    path.write_text(HEADER + text, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        load_config(path)
    message = str(refused.value)
    assert message.startswith(str(tmp_path)) and WRONG[text] in message and "\n" not in message
    with pytest.raises(SystemExit) as ended:
        parse_flags(["train.py", f"--config={path}"])
    assert ended.value.code == f"error: {message}"


@pytest.mark.parametrize("arguments", [(), ("--config=",), ("--config",), ("--workdir=x", "--", "--config=a.py")])
def test_a_missing_config_is_asked_for(arguments):
    with pytest.raises(SystemExit, match="^error: --config is needed: a file with get_config"):
        parse_flags(["train.py", *arguments])


def test_a_directory_is_no_config_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a directory, no config file"):
        load_config(tmp_path)


def test_a_module_under_its_former_name_is_found_and_its_new_name_told(tmp_path, capsys, monkeypatch):
    for name in ("gpmjax.improve_config", "gpmjax.config_parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    path = tmp_path / "old.py"
    text = "from gpmjax.improve_config import ImproveConfig\nfrom gpmjax.config_parts import MeshConfig\n"
    path.write_text(text + "def get_config(): return ImproveConfig(mesh=MeshConfig(data=2))", encoding="utf-8")
    assert load_config(path) == ImproveConfig(mesh=MeshConfig(data=2)) == load_config(path)
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: gpmjax.improve_config is now gpmjax.config.improve",
        f"{path}: gpmjax.config_parts is now gpmjax.config.parts",
    ]


def test_a_name_after_a_colon_is_given_to_get_config(tmp_path):
    path = tmp_path / "sweep"
    path.write_text(HEADER + "def get_config(seed='0'): return Config(seed=int(seed))", encoding="utf-8")
    assert load_config(path) == Config(seed=0) and load_config(f"{path}:7") == Config(seed=7)
