"""Find, probe, load and call models."""
