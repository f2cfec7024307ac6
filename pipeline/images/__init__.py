"""Turn image files into uint8 pixels at the model's size."""
