"""The label job, and its dry run."""
