"""What crosses memreact's boundaries, as msgspec structs: settings, status, recordings, calls."""
