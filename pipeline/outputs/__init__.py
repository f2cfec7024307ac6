"""What a run leaves: rows, its folder, copies of images."""
