"""GenRM on SmolLM2-135M-Instruct: fine-tuned with the next-token loss to answer Yes or No to "is this answer correct?".

Paper     Zhang et al. 2024, Generative Verifiers, arXiv 2408.15240, equation 5.
Command   python launch/train.py --config=configs/genrm_smollm2.py --workdir=runs/genrm_smollm2 \\
            --config.data.train="('train.jsonl',)" --config.data.eval="('dev.jsonl',)"
          The A/B form: --config.model.kind=pairwise --config.model.question=a_or_b
          Without training: python launch/evaluate.py --model=smollm2 --head=verdict --question=yes_or_no \\
            --data=dev.jsonl
Data      As gpm_plain_smollm2.py. Each response gets a verdict of its own, so the score is a scalar.
Hardware  Two CPU cores and patience (LoRA of rank 16: 249 to 260 tokens/s on the letter cycles, 2026-11-25); any GPU.
Expected  At most 75 % on the letter cycles, as for every scalar score. See
          docs/results/systems.md.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_plain_smollm2.py")
    config.model = config.model.as_bradley_terry()
    config.model.backbone, config.model.lora_rank, config.model.remat = "train", 16, "dots"
    config.model.head, config.model.question = "verdict", "yes_or_no"
    config.loss.objective = "verdict"
    config.data.rows = 4
    config.optimizer.learning_rate = 1e-4
    return config
