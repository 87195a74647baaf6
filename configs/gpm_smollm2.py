"""The recommended preference model on SmolLM2-135M-Instruct's frozen features; another name of hybrid_smollm2.py.

Paper     arXiv 2410.02197. The paper's plain GPM is gpm_plain_smollm2.py; on nearly transitive votes it is worse than
          Bradley–Terry.
Command   python launch/train.py --config=configs/gpm_smollm2.py --workdir=runs/gpm_smollm2 \\
            --config.data.train="('train.jsonl',)" --config.data.eval="('dev.jsonl',)"
Data      As hybrid_smollm2.py.
Hardware  As hybrid_smollm2.py.
Expected  As hybrid_smollm2.py.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    return neighbour(__file__, "hybrid_smollm2.py")
