"""Importance-aware quantization (IAQ: Park, Oh, Kim, Jeon, arXiv 2412.06038), frame profile 0."""
