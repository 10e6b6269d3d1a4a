"""`memreact-host swap`: disks of running guests that are there to be swapped to."""
