"""What turns sound and picture into embeddings: `audio`, `visual`, `projector`, and `localizer` for where it sounds."""
