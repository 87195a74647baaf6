"""The decoder, the heads of preference models, and how a model is described."""
