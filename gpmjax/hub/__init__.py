"""Reads models from Hugging Face directories, GGUF files and the hub; writes Hugging Face directories. No torch."""

from gpmjax.hub.export import save_decoder as save_decoder
from gpmjax.hub.export import save_preference_model as save_preference_model
from gpmjax.hub.fitting import fitting as fitting
from gpmjax.hub.preference import LoadedModel as LoadedModel
from gpmjax.hub.preference import load_decoder as load_decoder
from gpmjax.hub.preference import load_preference_model as load_preference_model
from gpmjax.hub.source import Source as Source
from gpmjax.hub.source import load_tokenizer as load_tokenizer
from gpmjax.hub.source import open_source as open_source
from gpmjax.hub.source import tokenizer_for as tokenizer_for
