"""Running pipelines: Beam's options, and jobs on this machine or elsewhere."""
