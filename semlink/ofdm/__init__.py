"""MIMO-OFDM as IA-QSMPA has it (arXiv 2508.07696): the channel, what it does to bits, and its planning."""
