"""What a frozen embedding still knows: probes that are linear, so that they read and do not learn to see.

Survey section 4 and appendix D.2. A probe is fitted on one set of embeddings and judged on another. Left out here:
fine-tuning, and localization of events in time.
"""

from __future__ import annotations

import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits


def linear_probe(
    train: torch.Tensor,
    train_label: torch.Tensor,
    test: torch.Tensor,
    test_label: torch.Tensor,
    *,
    strength: float = 1.0,
    steps: int = 300,
) -> float:
    """Accuracy of logistic regression from embeddings to classes, in [0, 1]; higher is better, chance is 1 / K.

    `train` (M, D), `test` (N, D), labels (M,), (N,) whole numbers. Each dimension is first brought to standard
    deviation 1 on `train`, so that the scale of a space plays no part. `strength` is scikit-learn's `C`, one over the
    penalty; `steps` the most that its solver takes. Raises `ValueError` where sizes do not fit or `train` has one class
    only.

    >>> x, y = torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([3, 3, 7, 7])
    >>> linear_probe(x, y, torch.tensor([[2.0], [9.0], [3.0]]), torch.tensor([3, 7, 7]))
    0.6666666666666666
    """
    _check(train, train_label, test, test_label)
    if train_label.is_floating_point() or len(train_label.unique()) < 2:
        raise ValueError(
            "a probe for classes needs whole numbers of at least two classes; use linear_probe_r2 for sizes"
        )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=steps))
    # beside another process, threads wait for each other: with one, two fits at a time took less than a tenth as long
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # accuracy settles long before the weights do
        model.fit(_numpy(train), train_label.cpu().numpy())
    return float(model.score(_numpy(test), test_label.cpu().numpy()))


def linear_probe_r2(
    train: torch.Tensor, train_value: torch.Tensor, test: torch.Tensor, test_value: torch.Tensor, *, ridge: float = 1.0
) -> float:
    """Share of a number's variance that a ridge regression from embeddings explains, at most 1; higher is better.

    On `test`: `R^2 = 1 - sum (y - y_hat)^2 / sum (y - mean y)^2`; 0 is what the mean of `test` would score, below
    0 is worse. For causes such as size or place. `train` (M, D), `test` (N, D), values (M,), (N,); dimensions are
    scaled as in `linear_probe`. Raises `ValueError` where sizes do not fit or the value does not vary.

    >>> x = torch.linspace(-1, 1, 9)[:, None]
    >>> round(linear_probe_r2(x, 3 * x[:, 0] + 2, x, 3 * x[:, 0] + 2, ridge=0.0), 6)
    1.0
    """
    _check(train, train_value, test, test_value)
    if train_value.double().var() == 0 or test_value.double().var() == 0:
        raise ValueError("the value does not vary: there is no variance to explain")
    model = make_pipeline(StandardScaler(), Ridge(alpha=ridge)).fit(_numpy(train), _numpy(train_value))
    return float(r2_score(_numpy(test_value), model.predict(_numpy(test))))


def _check(train: torch.Tensor, train_target: torch.Tensor, test: torch.Tensor, test_target: torch.Tensor) -> None:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or 0 in (*train.shape, *test.shape):
        raise ValueError(f"embeddings must be (M, D) and (N, D), got {tuple(train.shape)} and {tuple(test.shape)}")
    for name, x, target in (("train", train, train_target), ("test", test, test_target)):
        if target.shape != (len(x),):
            raise ValueError(f"{name} has {len(x)} embeddings, but its targets are {tuple(target.shape)}")


def _numpy(x: torch.Tensor):
    return x.detach().cpu().double().numpy()
