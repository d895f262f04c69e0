"""Whether a candidate adapter may replace the active one: pure functions over both adapters' answers."""
