"""What a device's spool holds, shown without a camera, also while a device uses it."""

import json
import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from device.spool_file import SpoolError, spool_contents
from semlink.service.settings import ProcessSettings


class ShowSpoolSettings(ProcessSettings):
    """Says what a device's spool holds: one JSON line for the whole, then one per view.

    Other settings of a device are allowed, and have no effect.
    """

    model_config = SettingsConfigDict(cli_ignore_unknown_args=True)

    spool: Path = Field(description="the spool; a device may be using it")
    show_spool: bool = Field(False, description="asks for this")


def show_spool(path: Path) -> None:
    """Prints it; explains why not, and exits with 1."""
    try:
        for each in spool_contents(path):
            print(json.dumps(each))
    except SpoolError as error:
        sys.exit(f"device: {error}")
