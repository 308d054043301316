"""Whose header tags the server takes."""

import hmac
import secrets
from collections.abc import Mapping

from pydantic import SecretBytes

from semlink.service.header_tag import MIN_KEY_BYTES, header_tag
from server.refusals import BadTag


class HeaderKeys:
    """The devices' keys. Who has none is refused like who has signed with another, by the same steps."""

    def __init__(self, keys: Mapping[str, SecretBytes]) -> None:
        """`keys` by device id."""
        self._keys = keys
        self._of_nobody = SecretBytes(secrets.token_bytes(MIN_KEY_BYTES))

    def check(
        self, tag: bytes, header: bytes, *, object_id: str, device_id: str, frame_id: int, expected_views: int
    ) -> None:
        """Checks the tag of a view; see `semlink.service.header_tag`.

        Raises:
            BadTag: it is not the one that the device makes of this.
        """
        key = self._keys.get(device_id, self._of_nobody)
        right = header_tag(
            key.get_secret_value(),
            header,
            object_id=object_id,
            device_id=device_id,
            frame_id=frame_id,
            expected_views=expected_views,
        )
        if not hmac.compare_digest(tag, right):
            raise BadTag("the header's tag is not one that this device makes with its key")
