"""Answers to the exercises of lesson 14: the wrong ones by what was misunderstood. The runner tries each."""

ANSWERS = {
    1: {
        "wrong": {
            "the logarithm of a sigmoid, which is zero far out": """\
def forger(logits):
    return -torch.log(torch.sigmoid(logits)).mean()
""",
            "the saturating form of equation 6": """\
def forger(logits):
    return -F.softplus(logits).mean()
""",
            "the judge's side: forgeries are to be called false": """\
def forger(logits):
    return F.softplus(logits).mean()
""",
            "a sum instead of a mean": """\
def forger(logits):
    return F.softplus(-logits).sum()
""",
            "kept finite by a small number, and wrong there": """\
def forger(logits):
    return -torch.log(torch.sigmoid(logits) + 1e-8).mean()
""",
        },
        "right": {
            "as a binary cross-entropy with logits": """\
def forger(logits):
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
""",
            "by logsigmoid": """\
def forger(logits):
    return -F.logsigmoid(logits).mean()
""",
        },
    },
    2: {
        "wrong": {
            "the other way round": """\
def kl_normal(m1, s1, m2, s2):
    return (s1 / s2).log() + (s2**2 + (m1 - m2) ** 2) / (2 * s1**2) - 0.5
""",
            "takes the widths for variances": """\
def kl_normal(m1, s1, m2, s2):
    return 0.5 * (s2 / s1).log() + (s1 + (m1 - m2) ** 2) / (2 * s2) - 0.5
""",
            "knows only the standard normal": """\
def kl_normal(m1, s1, m2, s2):
    return -s1.log() + (s1**2 + m1**2) / 2 - 0.5
""",
            "leaves the constant out": """\
def kl_normal(m1, s1, m2, s2):
    return (s2 / s1).log() + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2)
""",
            "forgets that the distance counts in widths": """\
def kl_normal(m1, s1, m2, s2):
    return (s2 / s1).log() + s1**2 / (2 * s2**2) + (m1 - m2) ** 2 / 2 - 0.5
""",
        },
        "right": {
            "from torch.distributions": """\
def kl_normal(m1, s1, m2, s2):
    from torch.distributions import Normal, kl_divergence

    return kl_divergence(Normal(m1, s1), Normal(m2, s2))
""",
            "with log-variances": """\
def kl_normal(m1, s1, m2, s2):
    a, b = 2 * s1.log(), 2 * s2.log()
    return 0.5 * (b - a + (a - b).exp() + (m1 - m2) ** 2 * (-b).exp() - 1)
""",
        },
    },
    3: {
        "wrong": {
            "each clip for itself, before the mean": """\
def paid(kl, free_bits):
    return kl.clamp_min(free_bits).mean(0).sum()
""",
            "on the sum of all dimensions": """\
def paid(kl, free_bits):
    return kl.mean(0).sum().clamp_min(free_bits)
""",
            "a ceiling instead of a floor": """\
def paid(kl, free_bits):
    return kl.mean(0).clamp_max(free_bits).sum()
""",
            "free bits subtracted": """\
def paid(kl, free_bits):
    return (kl.mean(0) - free_bits).clamp_min(0).sum()
""",
            "a mean over dimensions": """\
def paid(kl, free_bits):
    return kl.mean(0).clamp_min(free_bits).mean()
""",
        },
        "right": {
            "dimension by dimension": """\
def paid(kl, free_bits):
    return sum(max(free_bits, kl[:, d].mean().item()) for d in range(kl.shape[1]))
""",
        },
    },
}
