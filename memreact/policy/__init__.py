"""Pure decisions: state and event in, step out; no file, no clock, no loop."""
