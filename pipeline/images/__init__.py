"""Image files → uint8 pixels at the model's size."""
