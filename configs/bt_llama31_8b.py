"""Bradley–Terry on Llama-3.1-8B-Instruct: the baseline of gpm_llama31_8b.py, which differs only in its head.

Paper     arXiv 2410.02197, section 6.2.
Command   python launch/train.py --config=configs/bt_llama31_8b.py --workdir=runs/bt_llama31_8b
Data      As gpm_llama31_8b.py.
Hardware  As gpm_llama31_8b.py.
Expected  RewardBench average, as published (talk, then paper): 91.1, 90.56. Not measured by us.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_llama31_8b.py")
    config.model = config.model.as_bradley_terry()
    return config
