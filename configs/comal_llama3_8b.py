"""COMAL on Llama-3-8B-Instruct: gpo_llama3_8b.py but for its loss, whose last policy, not the average of all, is the one to keep.

Paper     COMAL, arXiv 2410.23223, with INPO, arXiv 2407.00617, inside; the same rule as MPO, arXiv 2410.16714. Optimism: see
          gpmjax/preference/self_play.py.
Command   python launch/train.py --config=configs/comal_llama3_8b.py --workdir=runs/comal_llama3_8b
Data      As gpo_llama3_8b.py; all five responses of a prompt are trained on.
Recipe    Six iterations; before the fourth, the policy of the third becomes the reference. Step size 1/β = 10, a target of at most 5
          nats; mixture m = 0.1, so the game of three iterations is regularised by m β = 0.01. Ours, not the paper's: what the paper
          set could not be read. The learning rate and all else are gpo_llama3_8b.py's; win rates are the model's own, σ(s/τ).
          Without optimism, which costs one more forward pass over the samples: --config.loss.optimistic=False.
Hardware  As gpo_llama3_8b.py. The six exported policies, 16 GB each, stay on disk: later iterations read the reference from there.
Expected  Not measured by us. On games with a known equilibrium: README, "Last policies on games that no setting was chosen on".
"""

from gpmjax.config import neighbour
from gpmjax.config.improve import ImproveConfig, PolicyLossConfig


def get_config() -> ImproveConfig:
    config = neighbour(__file__, "gpo_llama3_8b.py")
    config.iterations = 6
    config.loss = PolicyLossConfig(
        method="comal", estimator="all", beta=0.1, mixture=0.1, reference_every=3, optimistic=True, score_factor=1.0
    )
    return config
