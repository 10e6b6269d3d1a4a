"""Real Debian guests in QEMU: built from packages, booted, saved, restored, measured."""
