"""avlab: a notebook-first workbench for deep audio-visual correlation learning.

A lesson begins with `lab = avlab.start("NN_theme")`. Data flows one way, and imports run only against it:

    world/ or a media file ──▶ Clip ──▶ batch ──▶ models ──▶ losses ──▶ train ──▶ metrics ──▶ show
         (datasets)          (clip)  (datasets)   (encoders, fusion, ...)                   (figures, player)

| module | what it holds |
|---|---|
| `start` | `lab = start(...)`: seed, device, threads, profile, style; what a lesson states about its run |
| `clip` | `Clip`, `Truth`, `Batch`: the one data type |
| `media` | clips from and to media files |
| `audio`, `video` | waveform to spectrogram and features; frames to motion |
| `world` | clips in which what is heard is caused by what is seen, with the truth about them |
| `datasets` | pairs in batches; a folder of your own clips |
| `models`, `losses`, `metrics` | encoders and projectors; what they learn from; how they are measured |
| `train` | one training loop, which survives being killed |
| `baselines` | the cheats that a result must beat |
| `show` | figures, the synchronised player, the atlas of embeddings, explorers, cards |
| `survey` | the survey's concepts, claims, references and tables as data frames |
| `course`, `cli` | the runner and the checks of the notebooks; `avlab lab, run, check, calibrate, doctor, world` |
"""

from avlab.start import start

__version__ = "0.1.0"
__all__ = ["__version__", "start"]
