"""memreact-top: what memreact does in one guest or in many, while it does it."""
