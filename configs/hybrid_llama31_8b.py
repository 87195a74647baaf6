"""A hybrid of reward and cyclic part on Llama-3.1-8B-Instruct, fitted in two stages.

Paper     arXiv 2410.02197, section 6.2, with the reward of arXiv 2605.17342; see hybrid_gemma2b.py.
Command   python launch/train.py --config=configs/hybrid_llama31_8b.py --workdir=runs/hybrid_llama31_8b
Data      As gpm_llama31_8b.py.
Hardware  As gpm_llama31_8b.py; stage two adds one forward pass over the training prompts.
Expected  As hybrid_gemma2b.py. Not measured by us.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_llama31_8b.py")
    recipe = neighbour(__file__, "hybrid_gemma2b.py")
    config.model.kind = recipe.model.kind
    config.model.gate, config.model.normalise, config.model.tau = (
        recipe.model.gate,
        recipe.model.normalise,
        recipe.model.tau,
    )
    config.loss = recipe.loss
    return config
