"""Image sets: folders, manifests, original layouts, and pixels and attention cached on disk."""
