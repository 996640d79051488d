"""The lessons as tests: `run` and `watch` run them, `contract` reads them, `outcomes` judges what they state."""
