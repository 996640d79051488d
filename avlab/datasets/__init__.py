"""Where clips come from: `folder` (your own), `lesson` (one form for all), `stream` and `cache` (rendered clips),
`pairs` (batches), `vggss` (boxes)."""
