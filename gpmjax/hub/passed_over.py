"""Lists the attributes of a config.json that are known not to affect the forward pass.

An attribute in none of these tables may change the result, so an import refuses it by name.
"""

from collections.abc import Mapping
from typing import Any

# Attributes that transformers itself writes and that do not affect the forward pass: names, special tokens, defaults of
# training and generation. Also those that are read with a head (gpmjax.hub.declaration) rather than with the decoder.
_STANDARD = """
    mean std
    _attn_implementation _attn_implementation_autoset _name_or_path _sliding_window_pattern architectures
    attention_dropout bad_words_ids begin_suppress_tokens bos_token_id cache_implementation chunk_size_feed_forward
    classifier_dropout decoder_start_token_id diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id gpmjax hidden_act hidden_dropout id2label initializer_range is_decoder is_llama_config label2id
    length_penalty max_length min_length model_type no_repeat_ngram_size num_beam_groups num_beams num_labels
    num_return_sequences output_attentions output_hidden_states output_past output_scores pad_token_id prefix
    pretraining_tp problem_type remove_invalid_values repetition_penalty return_dict return_dict_in_generate
    sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p torch_dtype
    torchscript transformers.js_config transformers_version typical_p unsloth_fixed unsloth_version use_bfloat16
    use_cache
    """
STANDARD = frozenset(_STANDARD.split())

# Attributes without effect on the forward pass that other programs write: the kernel that computes attention, the
# file's origin, settings of a trainer, dropouts (0 when a model is read), special tokens.
_PASSED_OVER = """
    _commit_hash _flash_attn_2_enabled _from_auto _use_flash_attention_2 attn_implementation attn_pdrop
    base_model_name_or_path boi_token_id bos_token chat_template classifier_activation cls_token_id embd_pdrop
    embedding_dropout embedding_size_multiple eoi_token_id eos_token eot_token_id experts_implementation ffn_dropout
    flash_attention generation_config gradient_checkpointing hidden_dropout_prob image_token_id initializer_factor
    keys_to_ignore_at_inference license mask_token_id mlp_dropout model_max_length name neftune_noise_alpha
    normalize_reward pad_token residual_dropout resid_pdrop seq_length summary_activation
    summary_first_dropout summary_proj_to_labels summary_type summary_use_proj token_dropout tokenizer_model_max_length
    tokenizer_padding_side trl_version unk_token_id use_flash_attention_2 use_flash_attn
    """
PASSED_OVER = frozenset(_PASSED_OVER.split())

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "alibi": (False,),
    "attn_logit_softcapping": (),  # Gemma 3 never applies it
    "embedding_multiplier": (1.0, 1),
    "hidden_activation": (),
    "is_causal": (True,),
    "is_encoder_decoder": (False,),
    "logits_scaling": (1.0, 1),
    "num_nextn_predict_layers": (0,),
    "output_router_logits": (False,),
    "partial_rotary_factor": (1.0, 1),
    "pruned_heads": ({},),
    "qk_layernorm": (False,),
    "qk_norm": (False,),
    "qkv_bias": (False,),
    "residual_multiplier": (1.0, 1),
    "rope_interleaved": (False,),
    "rotary_pct": (1.0, 1),
    "tie_encoder_decoder": (False,),
    "use_bias": (False,),
    "use_bidirectional_attention": (False,),
    "use_mrope": (False,),
    "use_parallel_residual": (False,),
    "use_qk_norm": (False,),
    "value_head_prefix": ("score", "value_head"),  # name of the head's tensor in OpenRLHF
}
"""Attributes that may change the forward pass unless they have one of these values; None is always accepted."""


def neutral_layers(hf: Mapping[str, Any], name: str, family: Mapping[str, Any]) -> bool:
    """Whether an attribute about sliding layers has no effect, because the model has none.

    A config of a family without sliding layers may say "no layer slides" with the attributes of other families.

    >>> neutral_layers({"layer_types": ["full_attention"] * 2}, "layer_types", {})
    True
    """
    if "sliding_window" in family and hf.get("sliding_window", family["sliding_window"]) is not None:
        return False  # a Mistral with sliding layers; the other families read these attributes themselves
    if name == "layer_types":
        return isinstance(hf[name], list) and all(kind == "full_attention" for kind in hf[name])
    if name == "use_sliding_window":
        return hf[name] is False
    # Window and layers are without meaning if use_sliding_window is false.
    return name in ("max_window_layers", "sliding_window") and hf.get("use_sliding_window") is False
