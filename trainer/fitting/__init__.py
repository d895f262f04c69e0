"""Training: from labelled texts to an adapter on disk."""
