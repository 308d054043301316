"""Evaluation: accuracy of the link over image sets, as rows of results."""
