"""Studio: a page on which one sees the link think; of cameras, a channel and a server that it starts."""
