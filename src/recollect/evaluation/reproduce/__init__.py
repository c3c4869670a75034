"""Published results, run again: one file a paper."""
