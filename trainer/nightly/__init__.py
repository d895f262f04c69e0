"""The training run: labels in, a better adapter out, or the reasons why not."""
