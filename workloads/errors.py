"""Errors of the workloads folder, caught by the command line and shown as one line."""


class WorkloadError(ValueError):
    """A model, sampler or program that cannot be built or run as asked."""
