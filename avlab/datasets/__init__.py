"""Where clips come from: `folder` (your own), `lesson` (one form for all), `pairs` (batches), `vggss` (boxes)."""
