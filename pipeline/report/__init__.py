"""The page of a label run: ``report.html``, which needs nothing else, not even a network."""
