"""Tables in files: one reader for training, for publishing, for labels and for predictions."""
