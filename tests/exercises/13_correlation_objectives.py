"""Answers to the exercises of lesson 13: the wrong ones by what was misunderstood. The runner tries each."""

ANSWERS = {
    1: {
        "wrong": {
            "forgets to centre": """\
def correlations(audio, visual):
    bases = [torch.linalg.qr(x).Q for x in (audio, visual)]
    return torch.linalg.svdvals(bases[0].T @ bases[1])
""",
            "standardises each dimension instead of whitening": """\
def correlations(audio, visual):
    a, v = ((x - x.mean(0)) / x.std(0, correction=0) for x in (audio, visual))
    return torch.linalg.svdvals(a.T @ v / len(a))
""",
            "the singular values of the covariance itself": """\
def correlations(audio, visual):
    a, v = (x - x.mean(0) for x in (audio, visual))
    return torch.linalg.svdvals(a.T @ v / len(a))
""",
            "squared correlations": """\
def correlations(audio, visual):
    bases = [torch.linalg.qr(x - x.mean(0)).Q for x in (audio, visual)]
    return torch.linalg.svdvals(bases[0].T @ bases[1]).square()
""",
            "the diagonal: which basis vector is which is arbitrary": """\
def correlations(audio, visual):
    bases = [torch.linalg.qr(x - x.mean(0)).Q for x in (audio, visual)]
    return (bases[0].T @ bases[1]).diagonal()
""",
        },
        "right": {
            "eigenvalues of the squared matrix": """\
def correlations(audio, visual):
    a, v = (x - x.mean(0) for x in (audio, visual))
    both = torch.cholesky_solve(a.T @ v, torch.linalg.cholesky(a.T @ a))
    both = both @ torch.cholesky_solve(v.T @ a, torch.linalg.cholesky(v.T @ v))
    return torch.linalg.eigvals(both).real.clamp_min(0).sqrt().sort(descending=True).values
""",
        },
    },
    2: {
        "wrong": {
            "measures on the rows that were fitted": """\
def honest(audio, visual, k):
    found = linear_cca(audio[::2], visual[::2], components=k, ridge=1e-3)
    a, v = found.project_audio(audio[::2]), found.project_visual(visual[::2])
    a, v = ((x - x.mean(0)) / x.std(0, correction=0) for x in (a, v))
    return (a * v).mean(0)
""",
            "gives the correlations of the fit": """\
def honest(audio, visual, k):
    return linear_cca(audio[::2], visual[::2], components=k, ridge=1e-3).correlations
""",
            "fits on all rows": """\
def honest(audio, visual, k):
    found = linear_cca(audio, visual, components=k, ridge=1e-3)
    a, v = found.project_audio(audio[1::2]), found.project_visual(visual[1::2])
    a, v = ((x - x.mean(0)) / x.std(0, correction=0) for x in (a, v))
    return (a * v).mean(0)
""",
            "fits a second time on the odd rows": """\
def honest(audio, visual, k):
    found = linear_cca(audio[::2], visual[::2], components=k, ridge=1e-3)
    a, v = found.project_audio(audio[1::2]), found.project_visual(visual[1::2])
    return linear_cca(a, v, components=k, ridge=1e-3).correlations
""",
            "takes absolute values": """\
def honest(audio, visual, k):
    found = linear_cca(audio[::2], visual[::2], components=k, ridge=1e-3)
    a, v = found.project_audio(audio[1::2]), found.project_visual(visual[1::2])
    a, v = ((x - x.mean(0)) / x.std(0, correction=0) for x in (a, v))
    return (a * v).mean(0).abs()
""",
            "pairs even sounds with odd pictures": """\
def honest(audio, visual, k):
    found = linear_cca(audio[::2], visual[1::2], components=k, ridge=1e-3)
    a, v = found.project_audio(audio[1::2]), found.project_visual(visual[::2])
    a, v = ((x - x.mean(0)) / x.std(0, correction=0) for x in (a, v))
    return (a * v).mean(0)
""",
        },
        "right": {
            "numpy's corrcoef, a direction at a time": """\
def honest(audio, visual, k):
    found = linear_cca(audio[::2], visual[::2], components=k, ridge=1e-3)
    a, v = found.project_audio(audio[1::2]).numpy(), found.project_visual(visual[1::2]).numpy()
    return torch.tensor([np.corrcoef(a[:, j], v[:, j])[0, 1] for j in range(k)])
""",
        },
    },
    3: {
        "wrong": {
            "no intercept": """\
def pair_logistic(audio, visual, scale, intercept):
    return F.binary_cross_entropy_with_logits(scale * cosines(audio, visual), torch.eye(len(audio)))
""",
            "the intercept taken away": """\
def pair_logistic(audio, visual, scale, intercept):
    return F.binary_cross_entropy_with_logits(scale * cosines(audio, visual) - intercept, torch.eye(len(audio)))
""",
            "the intercept inside of the scale": """\
def pair_logistic(audio, visual, scale, intercept):
    return F.binary_cross_entropy_with_logits(scale * (cosines(audio, visual) + intercept), torch.eye(len(audio)))
""",
            "dot products instead of cosines": """\
def pair_logistic(audio, visual, scale, intercept):
    return F.binary_cross_entropy_with_logits(scale * (audio @ visual.T) + intercept, torch.eye(len(audio)))
""",
            "a softmax: which, not whether": """\
def pair_logistic(audio, visual, scale, intercept):
    return F.cross_entropy(scale * cosines(audio, visual) + intercept, torch.arange(len(audio)))
""",
            "the sum over pairs": """\
def pair_logistic(audio, visual, scale, intercept):
    A = scale * cosines(audio, visual) + intercept
    return F.binary_cross_entropy_with_logits(A, torch.eye(len(A)), reduction="sum")
""",
            "the partners only": """\
def pair_logistic(audio, visual, scale, intercept):
    return F.softplus(-(scale * cosines(audio, visual) + intercept)).diagonal().mean()
""",
        },
        "right": {
            "written with softplus": """\
def pair_logistic(audio, visual, scale, intercept):
    A = scale * F.normalize(audio, dim=1) @ F.normalize(visual, dim=1).T + intercept
    return (F.softplus(A).sum() - A.trace()) / A.numel()
""",
        },
    },
}
