"""Whether a candidate may replace the active adapter, and whether the active one has to go back."""
