"""Write what a run leaves: rows, the files in its folder, copies of images."""
