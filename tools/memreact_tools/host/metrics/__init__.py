"""The metrics of many guests, as one."""
