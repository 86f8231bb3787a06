"""The HTTP API: who asks, in what form, and how often. What is done is the engine's."""
