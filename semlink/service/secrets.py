"""Secrets as operators keep them: in files, or in the environment."""

import stat
from pathlib import Path

import structlog
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from semlink.service.startup import StartupError

log = structlog.get_logger(__name__)


class SecretsInEnvironment(BaseSettings):
    """SEMLINK_API_KEYS and so on. Not flags: whoever lists a machine's processes reads those.

    Attributes:
        api_keys: those that are accepted.
        api_key: the one that a process shows.
        header_key: of a device, for its header tags.
    """

    model_config = SettingsConfigDict(env_prefix="SEMLINK_", env_ignore_empty=True)

    api_keys: SecretStr | None = None
    api_key: SecretStr | None = None
    header_key: SecretStr | None = None


def read_secret(file: Path, flag: str) -> str:
    """What the file of secrets that `flag` names holds; warns if others may read it too.

    Raises:
        StartupError: it can't be read, or is no text.
    """
    try:
        text = file.read_text(encoding="utf-8")
        mode = file.stat().st_mode
    except OSError as error:
        raise StartupError(f"cannot read {file} ({flag}): {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartupError(f"{file} ({flag}) is not text in UTF-8") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("others on this machine may read the file of keys", file=str(file), advice=f"chmod 600 {file}")
    return text
