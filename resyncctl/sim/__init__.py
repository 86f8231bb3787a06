"""Simulated phones to rehearse a rollout against; they behave as asked for, not as hoped for."""
