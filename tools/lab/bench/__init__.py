"""`make bench`: what memreact's parts cost, and memreact beside what people would use instead."""
