"""Run the label job, and its dry run."""
