"""The wheel, built and installed by itself: it brings its data files, and fits a model outside of the tree."""

import json
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest

from tests.docs.pages import ROOT

BUILD = "from setuptools import build_meta as b; b.build_sdist({0!r}); b.build_wheel({0!r})"
FIT = """
import sys
from pathlib import Path

import gpmjax
from gpmjax.config import CheckpointConfig, Config, DataConfig, ModelConfig
from gpmjax.fit.fit import fit
from gpmjax.reports.page import find_chapters, render_page

assert Path(gpmjax.__file__).is_relative_to(sys.prefix), gpmjax.__file__
letters = ("builtin:letters",)
config = Config(
    steps=2,
    model=ModelConfig(source="random:tiny", tokenizer=sys.argv[1], backbone="frozen", dtype="float32", remat="none"),
    data=DataConfig(train=letters, eval=letters, max_length=128, rows=8, packing="single"),
    checkpoint=CheckpointConfig(every=0),
)
print(fit(config, "run")["status"])
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive and the wheel, built in a copy, so that the tree stays clean."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "gpmjax", copy / "gpmjax", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", copy / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", BUILD.format(str(out))]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [next(out.glob(pattern)) for pattern in ("*.whl", "*.tar.gz")]


def test_both_archives_hold_every_file_of_the_package(archives):
    files = [path for path in (ROOT / "gpmjax").rglob("*.*") if path.suffix in (".py", ".j2", ".css")]
    names = {str(path.relative_to(ROOT)) for path in files}
    with zipfile.ZipFile(archives[0]) as wheel, tarfile.open(archives[1]) as source:
        assert names - set(wheel.namelist()) == set()
        assert names - {name.partition("/")[2] for name in source.getnames()} == set()


def test_the_wheel_fits_a_model_outside_of_the_tree(archives, tmp_path, tokenizer_directory):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    install = ["-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", archives[0]]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    # Its dependencies are those of these tests; gpmjax itself comes first, from the environment's own packages.
    (packages,) = (environment / "lib").glob("python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")] + site.getsitepackages()
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(others)))
    command, plain = [python, "-c", FIT, tokenizer_directory], {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["finished"], done.stderr
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["architectures"]
    # The command, and a config by its name.
    helped = [environment / "bin" / "gpmjax", "train", "--config=bt_smollm2", "--help"]
    done = subprocess.run(helped, cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--config.model.kind: str = 'bt'" in done.stdout, done.stderr
