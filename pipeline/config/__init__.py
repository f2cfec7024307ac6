"""Define the command line: flags, the configuration they become, and flags in a YAML file."""
