"""A hybrid of reward and cyclic part on SmolLM2-135M-Instruct's frozen features: as good as Bradley–Terry, with cycles.

Paper     arXiv 2410.02197 (GPM), with the reward of arXiv 2605.17342 and a penalty on the cyclic part that held-out
          prompts choose.
Command   python launch/train.py --config=configs/hybrid_smollm2.py --workdir=runs/hybrid_smollm2 \\
            --config.data.train="('train.jsonl',)" --config.data.eval="('dev.jsonl',)"
Data      Yours; the default is the source's six letter cycles, for both training and evaluation.
Hardware  A laptop: two cores, 4 GB.
Expected  100 % on the letter cycles. With fewer than ten prompts nothing is held out and the penalty is the default, ρ
          = 0.03. Otherwise WORKDIR/regularisation.json has the chosen penalty and the evidence for it. For real data
          see docs/results/preferences.md.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_plain_smollm2.py")
    config.model.kind = "hybrid"
    config.loss.curl = "auto"
    config.epochs, config.least_steps = 20, 100
    config.data.rows = 128
    # One pair in a row, so that a step has 128 comparisons however many responses a prompt has.
    config.data.max_responses = 2
    return config
