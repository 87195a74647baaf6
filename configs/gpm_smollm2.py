"""The recommended preference model on SmolLM2-135M-Instruct's frozen features: hybrid_smollm2.py under the name that users know.

Paper     arXiv 2410.02197. The plain GPM of the paper is gpm_plain_smollm2.py; on nearly transitive votes it loses to Bradley–Terry.
Command   python launch/train.py --config=configs/gpm_smollm2.py --workdir=runs/gpm_smollm2 \\
            --config.data.train="('train.jsonl',)" --config.data.eval="('dev.jsonl',)"
Data      As hybrid_smollm2.py.
Hardware  As hybrid_smollm2.py.
Expected  As hybrid_smollm2.py.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    return neighbour(__file__, "hybrid_smollm2.py")
