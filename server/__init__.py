"""The server of the link: dequantizes frames, recognises what they show, and takes the vote of several views."""
