"""Answers to the exercises of lesson 01: the wrong ones by what was misunderstood. The runner tries each."""

ANSWERS = {
    1: {
        "wrong": {
            "ranks within columns: pictures that find their sound": """\
def recall(similarity, k):
    own = similarity.diagonal()[None]
    return ((similarity > own).sum(0) < k).float().mean().item()
""",
            "one rank too generous": """\
def recall(similarity, k):
    own = similarity.diagonal()[:, None]
    return ((similarity > own).sum(1) <= k).float().mean().item()
""",
            "counts partners at rank k alone, not up to it": """\
def recall(similarity, k):
    own = similarity.diagonal()[:, None]
    return ((similarity > own).sum(1) == k - 1).float().mean().item()
""",
            "ignores k": """\
def recall(similarity, k):
    return (similarity.argmax(1) == torch.arange(len(similarity))).float().mean().item()
""",
            "divides by k: that is precision": """\
def recall(similarity, k):
    own = similarity.diagonal()[:, None]
    return ((similarity > own).sum(1) < k).float().mean().item() / k
""",
        },
        "right": {
            "looks for the own column among the best k": """\
def recall(similarity, k):
    best = similarity.topk(k, dim=1).indices
    return (best == torch.arange(len(similarity))[:, None]).any(1).float().mean().item()
""",
            "row by row": """\
def recall(similarity, k):
    found = [i in sorted(range(len(row)), key=lambda j: -row[j])[:k] for i, row in enumerate(similarity.tolist())]
    return sum(found) / len(found)
""",
        },
    },
    2: {
        "wrong": {
            "the other sign: how late the sound is, not how to move it": """\
def best_shift(level, moves):
    peaks = {s: correlation_map(torch.roll(level, s, dims=1), moves).max().item() for s in range(-3, 4)}
    return -max(peaks, key=peaks.get)
""",
            "takes sounds for late only": """\
def best_shift(level, moves):
    peaks = {s: correlation_map(torch.roll(level, s, dims=1), moves).max().item() for s in range(0, 4)}
    return max(peaks, key=peaks.get)
""",
            "moves the pictures instead of the sound": """\
def best_shift(level, moves):
    peaks = {s: correlation_map(level, torch.roll(moves, s, dims=1)).max().item() for s in range(-3, 4)}
    return max(peaks, key=peaks.get)
""",
            "a range that ends before its last shift": """\
def best_shift(level, moves):
    peaks = {s: correlation_map(torch.roll(level, s, dims=1), moves).max().item() for s in range(-3, 3)}
    return max(peaks, key=peaks.get)
""",
            "the mean over all places instead of the best": """\
def best_shift(level, moves):
    peaks = {s: correlation_map(torch.roll(level, s, dims=1), moves).mean().item() for s in range(-3, 4)}
    return max(peaks, key=peaks.get)
""",
            "the motion of the whole picture": """\
def best_shift(level, moves):
    whole = moves.mean((2, 3), keepdim=True)
    peaks = {s: correlation_map(torch.roll(level, s, dims=1), whole).max().item() for s in range(-3, 4)}
    return max(peaks, key=peaks.get)
""",
            "gives the correlation instead of the shift": """\
def best_shift(level, moves):
    return max(correlation_map(torch.roll(level, s, dims=1), moves).max().item() for s in range(-3, 4))
""",
            "looks for the worst shift": """\
def best_shift(level, moves):
    peaks = {s: correlation_map(torch.roll(level, s, dims=1), moves).max().item() for s in range(-3, 4)}
    return min(peaks, key=peaks.get)
""",
        },
        "right": {
            "all shifts in one batch": """\
def best_shift(level, moves):
    shifts = list(range(-3, 4))
    levels = torch.cat([torch.roll(level, s, dims=1) for s in shifts])
    maps = correlation_map(levels, moves.expand(len(shifts), *moves.shape[1:]))
    return shifts[int(maps.flatten(1).amax(1).argmax())]
""",
        },
    },
    3: {
        "wrong": {
            "the other direction: each sound chooses among the pictures": """\
def one_way(scores, temperature):
    return F.cross_entropy(scores / temperature, torch.arange(len(scores)))
""",
            "both directions": """\
def one_way(scores, temperature):
    own = torch.arange(len(scores))
    return (F.cross_entropy(scores / temperature, own) + F.cross_entropy(scores.T / temperature, own)) / 2
""",
            "leaves the temperature out": """\
def one_way(scores, temperature):
    return F.cross_entropy(scores.T, torch.arange(len(scores)))
""",
            "multiplies by the temperature": """\
def one_way(scores, temperature):
    return F.cross_entropy(scores.T * temperature, torch.arange(len(scores)))
""",
            "a sum instead of a mean": """\
def one_way(scores, temperature):
    return F.cross_entropy(scores.T / temperature, torch.arange(len(scores)), reduction="sum")
""",
        },
        "right": {
            "written out as a softmax": """\
def one_way(scores, temperature):
    chances = (scores / temperature).softmax(0)
    return -chances.diagonal().log().mean()
""",
        },
    },
}
