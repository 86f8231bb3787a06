"""Tests of the simulated phones."""
