"""`Policy`: how kernels follow one another in the event engine, beyond one after another with a launch each."""

from dataclasses import dataclass

from simulator.errors import SimulationError

# Kernels that a CUDA device runs at once from compute capability 7.0 on (resident grids, CUDA programming guide).
MOST_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a runtime or compiler arranges between kernels; the default is a plain graph of launches.

    Attributes:
        prefetch: while a kernel runs, main memory's idle time loads weights of the next kernel of its stream into the
            memory next to it, as far as the operands of the running one leave room there. Routed weights (experts,
            rows of a table) are not known ahead and stay.
        persistent: kernels of a stream within one step of a phase run as one (a persistent or mega-kernel): instead of
            a launch and first latencies each waits for the one before at a barrier in the last shared memory. Fixed
            cost beyond that of a smallest kernel is work, and stays.
        streams: streams that independent branches of a trace are spread over; 1 leaves calls where they were.
        microbatches: independent batches of the traced program at once, each on streams of its own and one kernel
            behind the one before it, so that unlike kernels meet. Either these or `streams` may be more than 1.
    """

    prefetch: bool = False
    persistent: bool = False
    streams: int = 1
    microbatches: int = 1

    def __post_init__(self) -> None:
        for name in ("streams", "microbatches"):
            if not 1 <= getattr(self, name) <= MOST_AT_ONCE:
                raise SimulationError(f"{name} must be from 1 to {MOST_AT_ONCE}, got {getattr(self, name)}")
        if self.streams > 1 and self.microbatches > 1:
            raise SimulationError(
                "streams and microbatches cannot go together, as every batch has streams of its own; leave out one"
            )


PLAIN = Policy()
