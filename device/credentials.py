"""Credentials of the device's calls: TLS, and an API key."""

from dataclasses import dataclass
from typing import Self

import grpc
import structlog
from pydantic import SecretStr

from device.settings import DeviceSettings
from semlink.service.admission import own_key
from semlink.service.settings import StartupError
from semlink.service.tls import channel_credentials

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Credentials:
    """What every call goes out with.

    Attributes:
        tls: None for a connection without TLS.
        key: shown with every call, if there is one.
    """

    tls: grpc.ChannelCredentials | None = None
    key: SecretStr | None = None

    @classmethod
    def of(cls, settings: DeviceSettings) -> Self:
        """From the settings.

        Raises:
            StartupError: a file for TLS, or the key, is unfit.
        """
        if settings.tls_certificate is not None and settings.tls_server_authority is None:
            raise StartupError("--tls-certificate is of no use without --tls-server-authority, which turns TLS on")
        tls, key = channel_credentials(settings), own_key(settings.api_key_file)
        if key and not tls:
            log.warning("the API key travels unencrypted: --tls-server-authority turns TLS on")
        return cls(tls, key)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata that shows the key."""
        return () if self.key is None else (("authorization", f"Bearer {self.key.get_secret_value()}"),)
