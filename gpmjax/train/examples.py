"""One group's answers as a model sees them: what the preference circle and the score map are drawn from."""

from typing import Any

import numpy as np

from gpmjax.data.encode import EncodedGroup
from gpmjax.models.heads import PreferenceOutput, group_scores

LABEL_LENGTH = 40


def example(group: EncodedGroup, output: PreferenceOutput, tokenizer: Any) -> dict[str, Any]:
    """JSON-ready embeddings, gate and all K×K scores of a group that stands alone in the first row of a batch."""
    count = len(group.responses)
    decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=True).strip()
    found = {
        "title": group.where,
        "labels": [decode(response)[:LABEL_LENGTH] for response in group.responses],
        "scores": np.asarray(group_scores(output)[0, :count, :count]).tolist(),
    }
    # A reward has no picture of its own.
    if output.embedding.shape[-1] > 1:
        found["embedding"] = np.asarray(output.embedding[0, :count]).tolist()
    if output.scale is not None:
        found["scale"] = np.asarray(output.scale[0, 0]).tolist()
    return found
