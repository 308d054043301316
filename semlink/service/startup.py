"""What keeps a process from starting."""


class StartupError(Exception):
    """The process can't start; the message says why and what to do."""
