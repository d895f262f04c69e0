"""The vocabulary of ReviewLoop: messages, predictions, dead letters, errors. No network, no torch, no SQL."""
