"""The overview: what is the active adapter worth, how is the stream, and what needs a person."""
