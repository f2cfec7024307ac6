"""Scripts for developers of this package; workers do not get them."""
