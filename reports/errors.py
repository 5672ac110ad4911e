"""Errors of the reports folder, caught by the command line and shown as one line."""


class ReportError(ValueError):
    """A report that cannot be built or written as asked."""
