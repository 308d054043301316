"""Counterparts of the papers' figures, measured on real images. One file a figure; results beside them."""
