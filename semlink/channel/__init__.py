"""Channels: what the air does to a frame, and the physics of OFDM that they share."""
