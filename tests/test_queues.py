"""Queue, memory bank and the choice among negatives: against plain lists, and outer products that are really formed."""

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import assert_same, pairs

from avlab.losses.contrastive import info_nce
from avlab.losses.queues import MemoryBank, Queue, active_negatives
from avlab.losses.similarity import cosines, unit


def test_queue_is_a_list_that_forgets():
    queue, slow = Queue(7, D=3), []
    for step in range(5):
        audio, visual = pairs(2 + step % 2, 3, seed=step)
        queue.push(audio, visual)
        slow = [[a, v, age + 1] for a, v, age in slow]
        slow = ([[a, v, 0] for a, v in zip(unit(audio), unit(visual), strict=True)] + slow)[:7]
        held = queue.negatives()
        torch.testing.assert_close(held.audio, torch.stack([a for a, _, _ in slow]))
        torch.testing.assert_close(held.visual, torch.stack([v for _, v, _ in slow]))
        assert held.age.tolist() == [age for _, _, age in slow]
    assert queue.negatives().age.max() == 2


def test_an_empty_queue_is_info_nce_and_the_batch_itself_a_known_value():
    queue = Queue(8, D=11)
    audio, visual = pairs()
    held = queue.negatives()
    assert held.audio.shape == (0, 11)
    plain = info_nce(audio, visual)
    stored = {"negatives_audio": held.audio, "negatives_visual": held.visual}
    assert_same(info_nce(audio, visual, **stored).loss, plain.loss, atol=1e-7)
    queue.push(audio, visual)
    held = queue.negatives()
    # each answer now stands there twice, the right one too, as a wrong one: log(2 S / e) = log 2 + log(S / e)
    stored = {"negatives_audio": held.audio, "negatives_visual": held.visual}
    assert info_nce(audio, visual, **stored).loss.item() == pytest.approx(plain.loss.item() + math.log(2), abs=1e-5)


def test_what_is_stored_is_detached_and_saved():
    queue = Queue(4, D=11)
    audio, visual = (x.requires_grad_() for x in pairs())
    queue.push(audio, visual)
    held = queue.negatives()
    assert not held.audio.requires_grad
    assert not info_nce(*pairs(seed=1), negatives_visual=held.visual).loss.requires_grad
    assert len(held.audio) == 4  # of five the first four
    torch.testing.assert_close(held.audio, unit(audio.detach())[:4])
    other = Queue(4, D=11)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.negatives().visual, held.visual)
    assert list(queue.parameters()) == []
    with torch.autocast("cpu", torch.bfloat16):
        queue.push(*(x.bfloat16() for x in (audio, visual)))
    assert queue.negatives().audio.dtype == torch.float32
    queue.push(torch.zeros(2, 11), torch.full((2, 11), 1e30))
    assert torch.isfinite(queue.negatives().visual).all()


def test_bank_is_a_running_mean_on_the_sphere():
    bank = MemoryBank(6, D=3, keep=0.75)
    slow = {}
    for step, rows in enumerate(([0, 2, 5], [2, 3], [5, 2])):
        audio, visual = pairs(len(rows), 3, seed=step)
        bank.update(torch.tensor(rows), audio, visual)
        for row, a in zip(rows, unit(audio), strict=True):
            slow[row] = F.normalize(0.75 * slow[row] + 0.25 * a, dim=0) if row in slow else a
    for row, a in slow.items():
        torch.testing.assert_close(bank.audio[row], a)
    assert bank.age.tolist() == [2, -1, 0, 1, -1, 0]
    assert bank.audio[[1, 4]].abs().max() == 0


def test_bank_draws_others_evenly_and_never_the_clip_itself():
    bank = MemoryBank(5, D=2, keep=0.0)
    angles = torch.tensor([0.0, 1.0, 2.0, 3.0])
    points = torch.stack([angles.cos(), angles.sin()], 1)
    bank.update(torch.tensor([0, 1, 3, 4]), points, -points)
    rows = torch.tensor([0, 2, 4])
    drawn = bank.negatives(rows, 3000, generator=torch.Generator().manual_seed(0))
    for i, expected in enumerate(([1, 3, 4], [0, 1, 3, 4], [0, 1, 3])):
        whose = (drawn.audio[i] @ bank.audio.T)[:, [0, 1, 3, 4]].argmax(1)
        counts = whose.bincount(minlength=4)
        shares = {slot: count / 3000 for slot, count in zip([0, 1, 3, 4], counts.tolist(), strict=True) if count}
        assert sorted(shares) == expected
        assert all(abs(share - 1 / len(expected)) < 0.04 for share in shares.values())
    torch.testing.assert_close(drawn.visual, -drawn.audio)
    again = bank.negatives(rows, 3000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.audio, drawn.audio)
    assert (drawn.age == 0).all()


def test_bank_with_nobody_else_gives_nobody():
    bank = MemoryBank(5, D=11)
    audio, visual = pairs(2)
    assert bank.negatives(torch.tensor([0, 1]), 4).audio.shape == (2, 0, 11)
    bank.update(torch.tensor([1]), audio[:1], visual[:1])
    held = bank.negatives(torch.tensor([0, 1]), 4)
    assert held.audio.shape == (2, 0, 11)  # clip 1 has seen only itself
    stored = {"negatives_audio": held.audio, "negatives_visual": held.visual}
    assert_same(info_nce(audio, visual, **stored).loss, info_nce(audio, visual).loss, atol=1e-6)


def slow_active(pool, anchors, count, temperature, generator):
    """The same with the gradient embeddings written out, (K, B D), by autograd through the last layer."""
    embeddings = []
    for z in F.normalize(pool, dim=1):
        last = F.normalize(anchors, dim=1).clone().requires_grad_()  # the anchors as weights of a classifier
        logits = (last @ z)[None] / temperature
        loss = F.cross_entropy(logits, logits.argmax(1)) * temperature  # its derivative is (p - onehot) z^T
        embeddings.append(torch.autograd.grad(loss, last)[0].flatten())
    g = torch.stack(embeddings)
    chosen, far = [], g.square().sum(1)
    for _ in range(count):
        weight = far.clone().float()
        weight[chosen] = 0
        chosen.append(int(torch.multinomial(weight, 1, generator=generator)))
        distance = (g - g[chosen[-1]]).square().sum(1)
        far = distance if len(chosen) == 1 else torch.minimum(far, distance)
    return chosen


def test_active_negatives_are_k_means_seeding_of_gradients():
    pool, anchors = pairs(23, 7, dtype=torch.float64)[0], pairs(5, 7, seed=1, dtype=torch.float64)[1]
    for seed in range(3):
        found = active_negatives(pool, anchors, count=6, temperature=0.5, generator=torch.Generator().manual_seed(seed))
        slow = slow_active(pool, anchors, 6, 0.5, torch.Generator().manual_seed(seed))
        assert found.tolist() == slow


def test_active_negatives_avoid_copies_and_never_repeat():
    g = torch.Generator().manual_seed(0)
    distinct = torch.randn(4, 7, generator=g)
    pool = distinct[[0] * 40 + [1, 2, 3]]  # one negative forty times
    anchors = torch.randn(6, 7, generator=g)
    for seed in range(5):
        found = active_negatives(pool, anchors, count=4, generator=torch.Generator().manual_seed(seed))
        assert len(torch.unique(pool[found], dim=0)) == 4
    everything = active_negatives(pool, anchors, count=43, generator=g)
    assert sorted(everything.tolist()) == list(range(43))
    longer = active_negatives(9 * pool, anchors / 3, count=4, generator=torch.Generator().manual_seed(4))
    assert torch.equal(longer, found)  # lengths do not matter
    assert len(active_negatives(torch.zeros(3, 7), anchors, count=2, generator=g)) == 2
    assert cosines(pool, anchors).shape == (43, 6)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="size 0"):
        Queue(0, D=3)
    with pytest.raises(ValueError, match=r"D = 3, got \(5, 11\)"):
        Queue(4, D=3).push(*pairs())
    with pytest.raises(ValueError, match="2 clips or more"):
        MemoryBank(1, D=3)
    with pytest.raises(ValueError, match="0 <= keep < 1"):
        MemoryBank(3, D=3, keep=1.0)
    with pytest.raises(ValueError, match=r"rows \(4,\) and embeddings \(5, 11\)"):
        MemoryBank(9, D=11).update(torch.arange(4), *pairs())
    with pytest.raises(ValueError, match="must share D"):
        active_negatives(torch.ones(3, 4), torch.ones(3, 5), count=1)
    with pytest.raises(ValueError, match="holds 3 negatives, 4"):
        active_negatives(torch.ones(3, 4), torch.ones(2, 4), count=4)
