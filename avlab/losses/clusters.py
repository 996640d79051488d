"""Labels that nobody gave: clusters of one sense teach the other.

Survey sections 1 and 3.2 (pseudo-labels); cross-modal deep clustering (XDC) after Alwassel et al. 2020 [5]. Clustering
and training take turns; here are the two halves of a turn. Left out: the encoders, and clustering both senses at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from avlab.losses.similarity import at_least_float32, check_label, full_precision, unit


class Clusters(NamedTuple):
    """`label` (M,), the cluster of each clip; `centres` (C, D); `sizes` (C,), none of them 0."""

    label: torch.Tensor
    centres: torch.Tensor
    sizes: torch.Tensor


def cluster_labels(points: torch.Tensor, *, clusters: int, seed: int = 0, on_sphere: bool = True) -> Clusters:
    """k-means of features or embeddings (M, D) into pseudo-labels; a cluster that runs empty starts anew elsewhere.

    scikit-learn's, from 3 starts; it moves an empty cluster to the point farthest from its centre, so that no label
    is lost and the trivial answer (all in one) cannot come about here. `on_sphere` brings points to length one before,
    so that a distance is a cosine. Raises `ValueError` for fewer distinct points than clusters.

    >>> points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 3.0]])
    >>> found = cluster_labels(points, clusters=2)
    >>> bool(found.label[0] == found.label[1] != found.label[2]), sorted(found.sizes.tolist())
    (True, [1, 2])
    """
    from sklearn.cluster import KMeans  # 0.5 s: only where it is used

    if points.ndim != 2 or not 1 <= clusters <= len(points):
        raise ValueError(f"points must be (M, D) with M of {clusters} clusters or more, got {tuple(points.shape)}")
    flat = points.detach().cpu()
    flat = unit(flat) if on_sphere else at_least_float32(flat)
    distinct = len(torch.unique(flat, dim=0))
    if distinct < clusters:
        raise ValueError(f"{distinct} distinct points cannot fill {clusters} clusters: has the embedding collapsed?")
    found = KMeans(clusters, n_init=3, random_state=seed).fit(flat.numpy())
    label = torch.from_numpy(found.labels_).long().to(points.device)
    centres = torch.from_numpy(found.cluster_centers_).to(points.device, flat.dtype)
    return Clusters(label, centres, label.bincount(minlength=clusters))


class SwappedClusters(NamedTuple):
    """`loss`, and its halves: `audio`, how well sounds tell the clusters of their pictures, `visual` the reverse."""

    loss: torch.Tensor
    audio: torch.Tensor
    visual: torch.Tensor


def swapped_cluster_loss(
    audio_logits: torch.Tensor,
    visual_logits: torch.Tensor,
    *,
    audio_cluster: torch.Tensor,
    visual_cluster: torch.Tensor,
) -> SwappedClusters:
    """Each sense predicts the cluster of the *other*: the mean of two cross-entropies.

    `L = (CE(audio_logits, visual_cluster) + CE(visual_logits, audio_cluster)) / 2`. `audio_logits` (B, C2) over the
    clusters of pictures, `visual_logits` (B, C1) over those of sounds; `audio_cluster`, `visual_cluster` (B,). In nats,
    `log C` is what guessing costs. Predicting the own cluster instead would only repeat what was clustered.

    Raises `ValueError` where shapes or labels do not fit.

    >>> logits, first, second = torch.tensor([[9.0, 0.0]]), torch.tensor([0]), torch.tensor([1])
    >>> found = swapped_cluster_loss(logits, logits, audio_cluster=first, visual_cluster=second)
    >>> round(found.audio.item(), 3), round(found.visual.item(), 3)  # the sound was to say 1, the picture 0
    (9.0, 0.0)
    """
    if audio_logits.ndim != 2 or visual_logits.ndim != 2 or len(audio_logits) != len(visual_logits):
        raise ValueError(f"logits must be (B, C) with one B, got {tuple(audio_logits.shape)} "
                         f"and {tuple(visual_logits.shape)}")  # fmt: skip
    B = len(audio_logits)
    if B == 0:
        raise ValueError("a batch of no clips has no loss")
    with full_precision(audio_logits):
        target = check_label(visual_cluster, B, classes=audio_logits.shape[1])
        audio = F.cross_entropy(at_least_float32(audio_logits), target)
        target = check_label(audio_cluster, B, classes=visual_logits.shape[1])
        visual = F.cross_entropy(at_least_float32(visual_logits), target)
    return SwappedClusters((audio + visual) / 2, audio, visual)
