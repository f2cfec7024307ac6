"""The command line: its flags, the configuration that they become, and flags in a YAML file."""
