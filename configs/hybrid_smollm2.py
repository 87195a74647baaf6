"""A hybrid of reward and cyclic part on SmolLM2-135M-Instruct's frozen features: never worse than Bradley–Terry, and cycles where they are.

Paper     arXiv 2410.02197 (GPM), with the reward of arXiv 2605.17342 and a price on the cyclic part that held-out prompts choose.
Command   python launch/train.py --config=configs/hybrid_smollm2.py --workdir=runs/hybrid_smollm2 \\
            --config.data.train="('train.jsonl',)" --config.data.eval="('dev.jsonl',)"
Data      Yours; the default is the source's six letter cycles, each trained and evaluated on itself.
Hardware  A laptop: two cores, 4 GB.
Expected  100 % on the letter cycles. With fewer than ten prompts nothing is held out and the price is the default, ρ = 0.03; what was
          chosen otherwise, and on what, is in WORKDIR/regularisation.json. For real data see the README's measured runs.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_plain_smollm2.py")
    config.model.kind = "hybrid"
    config.loss.curl = "auto"
    config.epochs, config.least_steps = 20, 100
    config.data.rows = 128
    # Every pair of responses is a row: 128 comparisons a step, however many responses a prompt has.
    config.data.max_responses = 2
    return config
