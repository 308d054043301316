"""Semlink: a semantic image link. Mathematics first; the processes live beside this package, not in it."""
