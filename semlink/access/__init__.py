"""Access: bits with importance to what is sent: transmission plans (IA-QSMPA, arXiv 2508.07696)."""
