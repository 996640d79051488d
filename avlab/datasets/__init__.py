"""Where clips come from: `folder` (your own), `lesson` (one form for all), `stream` and `cache` (rendered clips),
`pairs` (batches), `vggss` (boxes), `store` (where things are kept)."""
