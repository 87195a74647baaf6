"""Bradley–Terry on SmolLM2-135M-Instruct's frozen features: the baseline of gpm_smollm2.py, with another head.

Paper     arXiv 2410.02197, the results named BT in its tables.
Command   python launch/train.py --config=configs/bt_smollm2.py --workdir=runs/bt_smollm2 \\
            --config.data.train="('train.jsonl',)" --config.data.eval="('dev.jsonl',)"
Data      As gpm_smollm2.py.
Hardware  A laptop: two cores, 4 GB.
Expected  At most 75 % on the letter cycles, the ceiling of any scalar score; at most 50 % with the cross-entropy, whose
          optimum there is a tie. For real data see docs/results/preferences.md.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_smollm2.py")
    config.model = config.model.as_bradley_terry()
    config.loss.curl = "0"  # there is no cyclic part to penalise
    return config
