"""What we do to the kernel: the only place from which memory is taken."""
