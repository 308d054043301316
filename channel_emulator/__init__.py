"""Channel emulator: a proxy of the link service that damages the frames passing through, as the air does."""
