"""The vocabulary of ReviewLoop: messages, predictions, dead letters, errors. No I/O, no torch, no SQL."""
