"""Turn what the user points at into a PCollection of ``ImageRef``."""
