"""The views of each object, and their vote: in memory, or in Redis where several servers share objects."""

from server.sessions.opening import open_sessions
from server.sessions.views import Rules, Sessions, View
from server.sessions.votes import Standing, Vote

__all__ = ["Rules", "Sessions", "Standing", "View", "Vote", "open_sessions"]
