"""Bradley–Terry on Gemma-2B-it: the baseline of gpm_gemma2b.py, which differs only in its head.

Paper     arXiv 2410.02197, section 6.2.
Command   python launch/train.py --config=configs/bt_gemma2b.py --workdir=runs/bt_gemma2b
Data      As gpm_gemma2b.py.
Hardware  As gpm_gemma2b.py.
Expected  RewardBench average, as published (talk, then paper): 68.9, 74.85. Not measured by us.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_gemma2b.py")
    config.model = config.model.as_bradley_terry()
    return config
