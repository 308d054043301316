"""Registry: channels, source coders and allocation methods by name; finds the modules of a package by itself."""

import importlib
import pkgutil
from typing import Any, Generic, Protocol, TypeVar


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T")
AnyT = TypeVar("AnyT", bound=_Named)


class Registry(Generic[T]):
    """Everything of a kind by its name."""

    def __init__(self, kind: str, package: str) -> None:
        """`kind`: in messages, such as "channel". `package`: its modules register what they have on import."""
        self._kind, self._package = kind, package
        self._items: dict[str, Any] = {}
        self._found = False

    def register(self, item: AnyT) -> AnyT:
        """Makes `item` known by its name; also a decorator of classes.

        Raises:
            ValueError: there is another of this name.
        """
        if item.name in self._items:
            raise ValueError(f"{self._kind} {item.name!r} is registered already")
        self._items[item.name] = item
        return item

    def registered(self) -> dict[str, T]:
        """Those that were registered until now; unlike `items`, it imports nothing."""
        return dict(self._items)

    def items(self) -> dict[str, T]:
        """All by name: those of the package, and others that were registered."""
        if not self._found:
            self._found = True
            for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
                importlib.import_module(f"{self._package}.{module.name}")
        return self.registered()

    def get(self, name: str) -> T:
        """The one of a name.

        Raises:
            ValueError: there is none.
        """
        known = self.items()
        if name not in known:
            raise ValueError(f"{self._kind} must be one of {', '.join(sorted(known))}, not {name!r}")
        return known[name]
