"""Source coders: picture to frame and back; each gives a frame and the importance of its payload's segments."""
