"""Labelling at the terminal: keys, screen, and the conversation between them and the queue."""
