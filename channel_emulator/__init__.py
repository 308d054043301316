"""The air between cameras and server: a proxy of the link service that damages the frames passing through."""
