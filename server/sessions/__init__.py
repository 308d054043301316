"""Voting sessions: the views of each object and their vote, in memory, or in Redis shared by several servers."""

from server.sessions.sessions import Sessions
from server.sessions.store import Rules, SubmittedView, TakenVote, Vote, VoteStatus

__all__ = ["Rules", "Sessions", "SubmittedView", "TakenVote", "Vote", "VoteStatus"]
