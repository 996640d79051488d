"""Answers to the exercises of lesson 17: the wrong ones by what was misunderstood. The runner tries each."""

ANSWERS = {
    1: {
        "wrong": {
            "compares the means": """\
def wins(a, b):
    return float(np.mean(a) > np.mean(b))
""",
            "pairs every seed of one with every seed of the other": """\
def wins(a, b):
    a, b = np.asarray(a)[:, None], np.asarray(b)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())
""",
            "sorts first, and so tears the pairs apart": """\
def wins(a, b):
    a, b = np.sort(a), np.sort(b)
    return float(((a > b) + 0.5 * (a == b)).mean())
""",
            "a tie is a win": """\
def wins(a, b):
    return float((np.asarray(a) >= np.asarray(b)).mean())
""",
        },
        "right": {
            "one seed after the other": """\
def wins(a, b):
    points = 0.0
    for x, y in zip(a, b):
        points += 1 if x > y else 0.5 if x == y else 0
    return points / len(a)
""",
        },
    },
    2: {
        "wrong": {
            "one-sided": """\
def flip_test(d):
    from itertools import product

    sums = [sum(s * x for s, x in zip(signs, d)) for signs in product((1, -1), repeat=len(d))]
    return sum(value >= sum(d) for value in sums) / len(sums)
""",
            "counts wins and forgets sizes": """\
def flip_test(d):
    from math import comb

    n, k = len(d), sum(x > 0 for x in d)
    far = [j for j in range(n + 1) if abs(j - n / 2) >= abs(k - n / 2)]
    return sum(comb(n, j) for j in far) / 2**n
""",
            "leaves the pattern that was seen out": """\
def flip_test(d):
    from itertools import product

    sums = [abs(sum(s * x for s, x in zip(signs, d))) for signs in product((1, -1), repeat=len(d))]
    return sum(value > abs(sum(d)) for value in sums) / len(sums)
""",
            "trusts a normal distribution": """\
def flip_test(d):
    return float(stats.ttest_1samp(d, 0).pvalue)
""",
        },
        "right": {
            "as a matrix of signs": """\
def flip_test(d):
    n = len(d)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    return float((np.abs(signs @ np.array(d)) >= abs(np.sum(d)) - 1e-12).mean())
""",
        },
    },
    3: {
        "wrong": {
            "chooses on the test clips": """\
def honest_best(validation, test):
    setting = max(test, key=test.get)
    return setting, test[setting]
""",
            "reports the score it was chosen by": """\
def honest_best(validation, test):
    setting = max(validation, key=validation.get)
    return setting, validation[setting]
""",
            "chooses by the mean of both": """\
def honest_best(validation, test):
    setting = max(validation, key=lambda x: validation[x] + test[x])
    return setting, test[setting]
""",
        },
        "right": {
            "by sorting": """\
def honest_best(validation, test):
    setting = sorted(validation, key=lambda x: validation[x])[-1]
    return (setting, test[setting])
""",
        },
    },
}
