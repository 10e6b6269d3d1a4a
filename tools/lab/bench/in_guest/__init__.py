"""Programs of the bench that run in the guest, on its python3 and nothing else."""
