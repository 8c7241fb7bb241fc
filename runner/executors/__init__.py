"""Where step attempts happen."""
