"""Image sets: folders, manifests, original layouts, and pixels and attention cached on disk."""


class ImageSetError(ValueError):
    """No such image set, or a malformed one; the message says where and what would be right."""
