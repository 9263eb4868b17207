"""The supernet, its subnets, and reading and writing their weights."""
