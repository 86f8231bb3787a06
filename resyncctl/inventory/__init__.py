"""Where registered phones come from, and who knows whether they are in a call."""
