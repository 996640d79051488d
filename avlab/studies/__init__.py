"""Experiments that put data, models, losses and metrics together; lessons and benchmarks start from here."""
