"""Which reviews are worth labelling: strategies over stored probabilities and embeddings, a file each."""
