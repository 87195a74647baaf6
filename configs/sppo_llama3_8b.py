"""SPPO on Llama-3-8B-Instruct: the baseline of gpo_llama3_8b.py, which differs only in its loss.

Paper     Self-Play Preference Optimization, arXiv 2405.00675; a baseline in arXiv 2410.02197, tables 3 to 6.
Command   python launch/train.py --config=configs/sppo_llama3_8b.py --workdir=runs/sppo_llama3_8b
Data      As gpo_llama3_8b.py. A response's win rate is the mean over the true 5 × 5 matrix of σ(2 s/τ), not derived
          from rewards; the factor 2 is that of the released scoring code (loss.score_factor = 2). SPPO's paper has the
          model's own σ(s/τ): --config.loss.score_factor=1.
Recipe    β = 0.001 and all else as gpo_llama3_8b.py. Hard labels: --config.loss.method=sppo_hard.
Hardware  As gpo_llama3_8b.py.
Expected  Tables 3 to 6 of arXiv 2410.02197. Not measured by us.
"""

from gpmjax.config import neighbour
from gpmjax.config.improve import ImproveConfig


def get_config() -> ImproveConfig:
    config = neighbour(__file__, "gpo_llama3_8b.py")
    config.loss.method = "sppo"
    return config
