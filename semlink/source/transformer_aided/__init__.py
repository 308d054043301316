"""Transformer-aided selection (Mortaheb, Karakaya, Khojastepour, Ulukus, arXiv 2405.01521)."""
