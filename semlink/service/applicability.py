"""Option that does not apply: a flag without effect beside the others is refused, never ignored.

Only flags are: an environment variable may be there for several processes, or for another channel than today's.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class Only:
    """Declares in which company a setting has an effect; several of one field must all hold.

    rate_burst: Annotated[int, Only("rate_limit")] = 20
    gamma: Annotated[float, Only("method", ("incremental", "water-filling"))] = 1.0
    rho: Annotated[float, Only("total_bits", (None,))] = 0.25
    """

    other: str
    """Name of another setting of the same model."""
    values: tuple[Any, ...] = ()
    """Values of it beside which the setting has an effect; none: whatever is not None, False, 0 or empty."""

    def contradiction(self, settings: BaseModel) -> str:
        """Why a setting has no effect, to be written behind its flag; empty where it has one."""
        value, other = getattr(settings, self.other), flag_of(self.other)
        if value in self.values if self.values else value:
            return ""
        if not self.values:
            return f"has no effect without {other}"
        if self.values == (None,):
            return f"has no effect beside {other}"
        return f"is for {other} {' or '.join(map(str, self.values))}, not {value}"


class Applicable(BaseModel):
    """Settings that say which of them have no effect."""

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


def flag_of(name: str) -> str:
    """The flag of a setting.

    >>> flag_of("design_ber")
    '--design-ber'
    """
    return f"--{name.replace('_', '-')}"
