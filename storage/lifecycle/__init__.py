"""The life of stored data: what is kept for how long, and how room is given back."""
