"""Measures, one file an application of the survey's appendix D; each states its direction and what chance scores."""
