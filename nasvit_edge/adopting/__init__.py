"""Networks that others trained, read into our grammar of blocks: the largest subnet of a space of their own."""
