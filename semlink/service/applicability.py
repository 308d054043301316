"""Option that does not apply: a flag without effect beside the others is refused, never ignored.

Only flags are: an environment variable may be there for several processes, or for another channel than today's.
"""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict

from semlink.parameters import Only, flag_of


class Applicable(BaseModel):
    """Settings that say which of them have no effect."""

    model_config = ConfigDict(allow_inf_nan=False)

    def without_effect(
        self, given: Collection[str], beside: Mapping[str, Only] = MappingProxyType({})
    ) -> Iterator[str]:
        """Why flags have no effect, one sentence each.

        Args:
            given: names of the settings that were given as flags.
            beside: what a command demands besides what fields declare.
        """
        for name, declared in type(self).model_fields.items():
            if name in given:
                for each in (*declared.metadata, *([beside[name]] if name in beside else [])):
                    if isinstance(each, Only) and (why := each.contradiction(self)):
                        yield f"{flag_of(name)} {why}"

    def effective(self, beside: Mapping[str, Only] = MappingProxyType({})) -> dict[str, Any]:
        """Values of the settings that have an effect, by name."""
        return {name: value for name, value in self if not any(self.without_effect([name], beside))}
