"""MIMO-OFDM as the IA-QSMPA paper has it (arXiv 2508.07696): the channel, what it does to bits, and its planning."""
