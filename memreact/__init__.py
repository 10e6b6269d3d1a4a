"""The guest daemon: gives cold memory back to the host, and stops the moment a workload stalls."""

__version__ = "0.1.0"
