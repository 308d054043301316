"""Vision: images, vision transformers, the engines that run them, and their weights (torch)."""
