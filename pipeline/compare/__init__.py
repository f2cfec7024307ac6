"""Compares the rows of two runs."""
