"""Learned access: bits with importance to symbols and back, by networks trained for the picture (Kong, Zhang)."""
