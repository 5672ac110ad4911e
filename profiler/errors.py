"""Errors of the profiler folder, all caught by the command line and shown as one line."""


class TraceError(ValueError):
    """A trace, an operation or a foreign file that cannot be understood."""


class UnknownOperationError(TraceError):
    """An operation without a cost rule met in strict mode."""
