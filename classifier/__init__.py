"""Base model and adapters in, calibrated predictions out."""
