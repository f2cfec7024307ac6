"""From what the user points at to a PCollection of ``ImageRef``."""
