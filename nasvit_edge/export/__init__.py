"""From a folded subnet to the file a runtime reads: one module a format."""
