"""Everything that shapes weights (torch)."""
