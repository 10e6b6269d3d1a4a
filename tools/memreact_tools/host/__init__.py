"""`memreact-host`: what runs beside the virtual machines, not in them."""
