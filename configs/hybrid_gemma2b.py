"""A hybrid of reward and cyclic part on Gemma-2B-it, fitted in two stages.

Paper     arXiv 2410.02197, section 6.2, with the reward of arXiv 2605.17342. Stage one is bt_gemma2b.py on nine tenths
          of the prompts. Stage two fits the cyclic part on the resulting features, and chooses its weight γ (possibly
          0) on the other prompts.
Command   python launch/train.py --config=configs/hybrid_gemma2b.py --workdir=runs/hybrid_gemma2b
Data      As gpm_gemma2b.py.
Hardware  As gpm_gemma2b.py; stage two adds one forward pass over the training prompts.
Expected  Bradley–Terry's scores if the held-out prompts show no cycles: γ = 0 in WORKDIR/regularisation.json. Not
          measured by us.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_gemma2b.py")
    config.model.kind = "hybrid"
    config.model.gate, config.model.normalise, config.model.tau = "none", "none", 1.0
    config.loss.curl = "auto"
    return config
