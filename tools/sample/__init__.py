"""Makes ``pipeline/sample``: the drawings, and the small models trained on them."""
