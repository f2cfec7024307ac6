"""Formats of rows: how they are written, and read again."""
