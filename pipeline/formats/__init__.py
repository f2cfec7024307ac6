"""The formats of rows: how they are written, and how they are read."""
