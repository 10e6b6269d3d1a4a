"""What crosses memreact's boundaries, as msgspec structs: settings, status, and later the wire."""
