"""Adapters on the console: their figures, and what people decide about them."""
