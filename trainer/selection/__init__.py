"""Selection of reviews for labelling: strategies over stored probabilities and embeddings."""
