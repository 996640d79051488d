"""Answers to the exercises of lesson 12: the wrong ones by what was misunderstood. The runner tries each."""

ANSWERS = {
    1: {
        "wrong": {
            "over the count: a class with one clip jumps onto it": """\
def move(centres, points, label, rate):
    moved = centres.clone()
    for k in label.unique():
        mine = points[label == k]
        moved[k] += rate * (mine - centres[k]).sum(0) / len(mine)
    return moved
""",
            "away from the points": """\
def move(centres, points, label, rate):
    moved = centres.clone()
    for k in range(len(centres)):
        mine = points[label == k]
        moved[k] -= rate * (mine - centres[k]).sum(0) / (1 + len(mine))
    return moved
""",
            "to the sum of the points instead of their differences": """\
def move(centres, points, label, rate):
    moved = centres.clone()
    for k in range(len(centres)):
        mine = points[label == k]
        moved[k] += rate * mine.sum(0) / (1 + len(mine))
    return moved
""",
            "all points to all centres": """\
def move(centres, points, label, rate):
    return torch.stack([c + rate * (points - c).sum(0) / (1 + len(points)) for c in centres])
""",
            "leaves the rate out": """\
def move(centres, points, label, rate):
    moved = centres.clone()
    for k in range(len(centres)):
        mine = points[label == k]
        moved[k] += (mine - centres[k]).sum(0) / (1 + len(mine))
    return moved
""",
            "changes the centres that it was given": """\
def move(centres, points, label, rate):
    for k in range(len(centres)):
        mine = points[label == k]
        centres[k] += rate * (mine - centres[k]).sum(0) / (1 + len(mine))
    return centres
""",
        },
        "right": {
            "as one matrix of who belongs where": """\
def move(centres, points, label, rate):
    member = torch.eye(len(centres))[label]  # (M, K)
    count = member.sum(0)[:, None]
    return centres + rate * (member.T @ points - count * centres) / (1 + count)
""",
        },
    },
    2: {
        "wrong": {
            "the distance within pairs alone": """\
def relative(audio, visual):
    return (unit(audio) - unit(visual)).square().sum(1).mean().item()
""",
            "counts pairs among the strangers": """\
def relative(audio, visual):
    distance = torch.cdist(unit(audio), unit(visual)).square()
    return (distance.diagonal().mean() / distance.mean()).item()
""",
            "upside down": """\
def relative(audio, visual):
    distance = torch.cdist(unit(audio), unit(visual)).square()
    strangers = ~torch.eye(len(audio), dtype=torch.bool)
    return (distance[strangers].mean() / distance.diagonal().mean().clamp_min(1e-9)).item()
""",
            "lengths count": """\
def relative(audio, visual):
    distance = torch.cdist(audio, visual).square()
    strangers = ~torch.eye(len(audio), dtype=torch.bool)
    return (distance.diagonal().mean() / distance[strangers].mean()).item()
""",
            "strangers of the same sense": """\
def relative(audio, visual):
    own = (unit(audio) - unit(visual)).square().sum(1).mean()
    return (own / torch.pdist(unit(audio)).square().mean()).item()
""",
            "not squared": """\
def relative(audio, visual):
    distance = torch.cdist(unit(audio), unit(visual))
    strangers = ~torch.eye(len(audio), dtype=torch.bool)
    return (distance.diagonal().mean() / distance[strangers].mean()).item()
""",
        },
        "right": {
            "from cosines": """\
def relative(audio, visual):
    far = 1 - unit(audio) @ unit(visual).T
    B, own = len(far), far.diagonal().sum()
    return float(own / B / ((far.sum() - own) / (B * (B - 1))))
""",
        },
    },
    3: {
        "wrong": {
            "the other divergence: the student's mean": """\
def soft_loss(student, teacher, T):
    said, wanted = (student / T).log_softmax(1), (teacher / T).log_softmax(1)
    return T**2 * (said.exp() * (said - wanted)).sum(1).mean()
""",
            "mean over clips and classes": """\
def soft_loss(student, teacher, T):
    return T**2 * F.kl_div((student / T).log_softmax(1), (teacher / T).softmax(1))
""",
            "forgets T squared": """\
def soft_loss(student, teacher, T):
    return F.kl_div((student / T).log_softmax(1), (teacher / T).softmax(1), reduction="batchmean")
""",
            "softens the student only": """\
def soft_loss(student, teacher, T):
    return T**2 * F.kl_div((student / T).log_softmax(1), teacher.softmax(1), reduction="batchmean")
""",
            "cross-entropy, which does not end at 0": """\
def soft_loss(student, teacher, T):
    return -(T**2) * ((teacher / T).softmax(1) * (student / T).log_softmax(1)).sum(1).mean()
""",
            "multiplies by the temperature": """\
def soft_loss(student, teacher, T):
    return T**2 * F.kl_div((student * T).log_softmax(1), (teacher * T).softmax(1), reduction="batchmean")
""",
        },
        "right": {
            "torch's own": """\
def soft_loss(student, teacher, T):
    return T * T * F.kl_div((student / T).log_softmax(1), (teacher / T).softmax(1), reduction="batchmean")
""",
            "cross-entropy less the teacher's entropy": """\
def soft_loss(student, teacher, T):
    wanted = (teacher / T).softmax(1)
    entropy = torch.special.entr(wanted).sum(1).mean()
    return T**2 * (F.cross_entropy(student / T, wanted) - entropy)
""",
        },
    },
}
