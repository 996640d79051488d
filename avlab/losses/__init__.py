"""Objectives, one file a family of the survey's section 3.2; each loss is a function that returns its logits too."""
