"""Statistics over windows and streams of scored reviews: pure functions and small detectors, no I/O."""
