"""Adapters: the registry and its activations, shadow trials, and rescoring of what is stored."""
