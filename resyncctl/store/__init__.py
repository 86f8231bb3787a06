"""Redis: every key, the packed records, the embedded server, and the crash-safe writes of a rollout."""
