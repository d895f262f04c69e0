"""Labelling at the terminal: keys, screen, and the session between them and the annotation queue."""
