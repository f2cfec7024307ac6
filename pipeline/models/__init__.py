"""Models: found, probed, loaded, and called."""
