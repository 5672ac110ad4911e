"""`PowerSource`: one thing whose energy or power can be read, and `SourceError`, how it says that it cannot."""

from dataclasses import dataclass
from typing import Protocol

from profiler.energy import DeviceType, Method, State


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReading:
    """What one reading gave; None for what the source does not tell."""

    energy_j: float | None = None
    power_w: float | None = None


class SourceError(Exception):
    """A reading failed; the state says in what way."""

    def __init__(self, state: State, message: str) -> None:
        """Keep the state beside the message."""
        super().__init__(state, message)
        self.state: State = state
        self.message = message


class PowerSource(Protocol):
    """One device or part of it.

    Attributes:
        name: what is read.
        device: `gpu` or `cpu`.
        method: `counter` where `energy_j` counts, `power` where only `power_w` is told.
        notes: what a reader must know.
        wraps_at_j: energies at which the counter may start from zero again.
    """

    @property
    def name(self) -> str:
        """What is read."""
        ...

    @property
    def device(self) -> DeviceType:
        """Whose energy it is."""
        ...

    @property
    def method(self) -> Method:
        """Where the energy comes from."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        ...

    @property
    def wraps_at_j(self) -> tuple[float, ...]:
        """Where the counter may begin at zero again."""
        ...

    def read(self) -> PowerReading:
        """Read now.

        Raises:
            SourceError: where that fails, in whatever way.
        """
        ...

    def close(self) -> None:
        """Let go of the device; never fails."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UnavailableSource:
    """Stands for a source that cannot be read, so that its state is recorded like any other."""

    name: str
    device: DeviceType
    state: State
    message: str
    method: Method = "power"
    notes: tuple[str, ...] = ()
    wraps_at_j: tuple[float, ...] = ()

    def read(self) -> PowerReading:
        """Say why there is nothing to read.

        Raises:
            SourceError: always, with the state and its message.
        """
        raise SourceError(self.state, self.message)

    def close(self) -> None:
        """Nothing was opened."""
