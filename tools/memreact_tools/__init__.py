"""What people run beside the daemon."""

__version__ = "0.1.0"
