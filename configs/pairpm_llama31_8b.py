"""PairPM on Llama-3.1-8B-Instruct: a language model that answers A or B; the score is the log-odds of the two answers.

Paper     Dong et al. 2024 (RLHF Workflow), arXiv 2405.07863, section 2.2; baseline (b) in figure 2 of arXiv 2410.02197.
Command   python launch/train.py --config=configs/pairpm_llama31_8b.py --workdir=runs/pairpm_llama31_8b
          To evaluate the published model: python launch/evaluate.py \\
            --model=RLHFlow/pair-preference-model-LLaMA3-8B --head=verdict --question=a_or_b --benchmark=rewardbench \\
            --data=allenai/reward-bench
Data      As gpm_llama31_8b.py. Each pair is trained on in one order, chosen by a hash of its texts, and evaluated in
          both.
Hardware  As gpm_llama31_8b.py, with one question in a row instead of responses that share a prompt.
Expected  Not measured by us.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_llama31_8b.py")
    config.model = config.model.as_bradley_terry()
    config.model.kind, config.model.head, config.model.question = "pairwise", "verdict", "a_or_b"
    config.loss.objective = "verdict"
    config.data.order = "shuffled"
    return config
