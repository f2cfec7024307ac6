"""Scripts for those who work on this package; no worker gets them."""
