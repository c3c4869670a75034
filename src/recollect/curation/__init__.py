"""What may be wrong with the rows of a memory, told by the rows themselves; all can be undone."""
