"""Answers to the exercises of lesson 16: the wrong ones by what was misunderstood. The runner tries each."""

ANSWERS = {
    1: {
        "wrong": {
            "one direction only: sounds choose": """\
def both_ways(logits):
    return F.cross_entropy(logits, torch.arange(len(logits)))
""",
            "both softmaxes over the same axis": """\
def both_ways(logits):
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits, own)) / 2
""",
            "a mean over all B squared pairs": """\
def both_ways(logits):
    rows, columns = logits.log_softmax(1).diagonal(), logits.log_softmax(0).diagonal()
    return -(rows.sum() + columns.sum()) / 2 / len(logits) ** 2
""",
            "the sum of both directions": """\
def both_ways(logits):
    own = torch.arange(len(logits))
    return F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)
""",
            "one softmax over the whole matrix": """\
def both_ways(logits):
    return -logits.flatten().log_softmax(0).view_as(logits).diagonal().mean()
""",
            "multiplies by a temperature once more": """\
def both_ways(logits):
    own = torch.arange(len(logits))
    return (F.cross_entropy(0.07 * logits, own) + F.cross_entropy(0.07 * logits.T, own)) / 2
""",
        },
        "right": {
            "written out": """\
def both_ways(logits):
    right = logits.diagonal()
    return (logits.logsumexp(1) + logits.logsumexp(0) - 2 * right).mean() / 2
""",
        },
    },
    2: {
        "wrong": {
            "keeps the graph": """\
def push(queue, new, size):
    return torch.cat([new, queue])[:size]
""",
            "the newest at the end, so that the newest is forgotten": """\
def push(queue, new, size):
    return torch.cat([queue, new.detach()])[:size]
""",
            "never forgets": """\
def push(queue, new, size):
    return torch.cat([new.detach(), queue])
""",
            "detaches the old instead of the new": """\
def push(queue, new, size):
    return torch.cat([new, queue.detach()])[:size]
""",
        },
        "right": {
            "without a graph from the start": """\
def push(queue, new, size):
    with torch.no_grad():
        rows = list(new) + list(queue)
        return torch.stack(rows[:size])
""",
        },
    },
    3: {
        "wrong": {
            "zero vectors": """\
def stuck(B, D):
    return torch.zeros(B, D), torch.zeros(B, D)
""",
            "a solved batch has a small loss": """\
def stuck(B, D):
    points = torch.eye(max(B, D))[:B]
    return points, points
""",
            "random points: a large loss, but a gradient": """\
def stuck(B, D):
    g = torch.Generator().manual_seed(0)
    return torch.randn(B, D, generator=g), torch.randn(B, D, generator=g)
""",
            "only the sounds are alike": """\
def stuck(B, D):
    g = torch.Generator().manual_seed(0)
    return torch.ones(B, D), torch.randn(B, D, generator=g)
""",
        },
        "right": {
            "opposite clouds, each in one point": """\
def stuck(B, D):
    return torch.full((B, D), 2.0), torch.full((B, D), -3.0)
""",
        },
    },
    4: {
        "wrong": {
            "forgets the diagonal": """\
def alike_pairs(audio, threshold):
    return cosines(audio, audio) > threshold
""",
            "dot products instead of cosines": """\
def alike_pairs(audio, threshold):
    return (audio @ audio.T > 5 * threshold) & ~torch.eye(len(audio), dtype=torch.bool)
""",
            "takes opposite for alike": """\
def alike_pairs(audio, threshold):
    return (cosines(audio, audio).abs() > threshold) & ~torch.eye(len(audio), dtype=torch.bool)
""",
            "the unlike ones": """\
def alike_pairs(audio, threshold):
    return (cosines(audio, audio) < threshold) & ~torch.eye(len(audio), dtype=torch.bool)
""",
            "numbers instead of a mask": """\
def alike_pairs(audio, threshold):
    return (cosines(audio, audio) > threshold).float() - torch.eye(len(audio))
""",
        },
        "right": {
            "pair by pair": """\
def alike_pairs(audio, threshold):
    B = len(audio)
    close = [
        [i != j and bool(F.cosine_similarity(audio[i], audio[j], dim=0) > threshold) for j in range(B)]
        for i in range(B)
    ]
    return torch.tensor(close)
""",
        },
    },
}
