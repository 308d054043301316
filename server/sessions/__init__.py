"""Voting sessions: the views of each object and their vote, in memory, or in Redis shared by several servers."""

from server.sessions.decisions import FOLLOWS, LAST_LAYER, NOTHING, ON_WISH, Vote, VoteStatus, Wish
from server.sessions.sessions import Recognise, Sessions
from server.sessions.store import Rules, SubmittedView, TakenVote

__all__ = [
    "FOLLOWS",
    "LAST_LAYER",
    "NOTHING",
    "ON_WISH",
    "Recognise",
    "Rules",
    "Sessions",
    "SubmittedView",
    "TakenVote",
    "Vote",
    "VoteStatus",
    "Wish",
]
