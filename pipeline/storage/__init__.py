"""Files anywhere: on this machine, in a bucket, on a server."""
