"""Answers to the exercises of lesson 15: the wrong ones by what was misunderstood. The runner tries each."""

ANSWERS = {
    1: {
        "wrong": {
            "one direction only": """\
def hardest(scores, margin):
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -torch.inf)
    return F.relu(others.amax(1) - scores.diagonal() + margin).mean()
""",
            "the pair is its own hardest stranger": """\
def hardest(scores, margin):
    own = scores.diagonal()
    return F.relu(scores.amax(1) - own + margin).mean() + F.relu(scores.amax(0) - own + margin).mean()
""",
            "all strangers, summed": """\
def hardest(scores, margin):
    return hinge_sum(scores, margin)


def hinge_sum(scores, margin):
    own, stranger = scores.diagonal(), 1 - torch.eye(len(scores))
    rows = (F.relu(scores - own[:, None] + margin) * stranger).sum(1)
    return rows.mean() + (F.relu(scores - own[None] + margin) * stranger).sum(0).mean()
""",
            "no hinge: easy pairs are paid for": """\
def hardest(scores, margin):
    own = scores.diagonal()
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -torch.inf)
    return (others.amax(1) - own + margin).mean() + (others.amax(0) - own + margin).mean()
""",
            "a margin of the wrong sign": """\
def hardest(scores, margin):
    own = scores.diagonal()
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -torch.inf)
    return F.relu(others.amax(1) - own - margin).mean() + F.relu(others.amax(0) - own - margin).mean()
""",
            "writes into the scores": """\
def hardest(scores, margin):
    own = scores.diagonal().clone()
    scores.fill_diagonal_(-torch.inf)
    return F.relu(scores.amax(1) - own + margin).mean() + F.relu(scores.amax(0) - own + margin).mean()
""",
        },
        "right": {
            "one clip at a time": """\
def hardest(scores, margin):
    total, B = 0.0, len(scores)
    for i in range(B):
        others = [j for j in range(B) if j != i]
        for rivals in (scores[i, others], scores[others, i]):
            total = total + (rivals.max() - scores[i, i] + margin).clamp_min(0) / B
    return total
""",
        },
    },
    2: {
        "wrong": {
            "the hardest: nearer strangers too": """\
def semi_hard(distances):
    return distances.masked_fill(torch.eye(len(distances), dtype=torch.bool), torch.inf).argmin(1)
""",
            "the farthest of the farther": """\
def semi_hard(distances):
    farther = distances.masked_fill(distances <= distances.diagonal()[:, None], -torch.inf)
    furthest, column = farther.max(1)
    return torch.where(furthest.isfinite(), column, -1)
""",
            "picks somebody where there is nobody": """\
def semi_hard(distances):
    return distances.masked_fill(distances <= distances.diagonal()[:, None], torch.inf).argmin(1)
""",
            "looks along columns": """\
def semi_hard(distances):
    farther = distances.masked_fill(distances <= distances.diagonal()[None], torch.inf)
    nearest, row = farther.min(0)
    return torch.where(nearest.isfinite(), row, -1)
""",
            "the distance in place of the column": """\
def semi_hard(distances):
    nearest = distances.masked_fill(distances <= distances.diagonal()[:, None], torch.inf).amin(1)
    return torch.where(nearest.isfinite(), nearest, -1)
""",
        },
        "right": {
            "row by row": """\
def semi_hard(distances):
    columns = []
    for i, row in enumerate(distances.tolist()):
        farther = [(x, j) for j, x in enumerate(row) if x > row[i]]
        columns.append(min(farther)[1] if farther else -1)
    return torch.tensor(columns)
""",
        },
    },
    3: {
        "wrong": {
            "the mean over all, its own too": """\
def own_margins(scores, alpha):
    scores = scores.detach()
    return alpha * (scores.diagonal() - scores.mean(1))
""",
            "over columns: the pictures' margins": """\
def own_margins(scores, alpha):
    scores = scores.detach()
    own = scores.diagonal()
    return alpha * (own - (scores.sum(0) - own) / (len(scores) - 1))
""",
            "learns its margin": """\
def own_margins(scores, alpha):
    own = scores.diagonal()
    return alpha * (own - (scores.sum(1) - own) / (len(scores) - 1))
""",
            "alpha on its own score only": """\
def own_margins(scores, alpha):
    scores = scores.detach()
    own = scores.diagonal()
    return alpha * own - (scores.sum(1) - own) / (len(scores) - 1)
""",
        },
        "right": {
            "with a mask, without a tape": """\
@torch.no_grad()
def own_margins(scores, alpha):
    strangers = ~torch.eye(len(scores), dtype=torch.bool)
    return torch.stack([alpha * (scores[i, i] - row[strangers[i]].mean()) for i, row in enumerate(scores)])
""",
        },
    },
}
