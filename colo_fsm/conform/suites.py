"""Test suites of a machine: a tour, n-switch, W and Wp. Each is a tuple of words of inputs.

A word is given to an implementation from a fresh start, and passes if every answer is the machine's and it
has ended where the machine has. All of it follows from the machine alone, in the order of its inputs: the
same machine gives the same suite in any process. No word is the beginning of another one, and none goes on
where nothing can be given any more.

What W and Wp promise: an implementation that is deterministic, takes the same inputs, shows when it has
ended, and has at most n + `extra` states in which something can be given, passes if and only if it answers
like the machine whatever is given. n is how many such states the minimal machine has; those that have ended
count on neither side, since they are seen and nothing follows.

These are our own because no well-kept Python library generates suites: AALpy has W and Wp too, but only as
oracles inside of its learners.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations, product

from .mealy import In, Mealy, Out, S, telling_apart


def tour(m: Mealy[S, In, Out]) -> tuple[tuple[In, ...], ...]:
    """Each transition at least once: always on to the nearest one that is left, until none can be reached.

    It sees every wrong output, and a wrong next state only by chance.
    """
    left = dict.fromkeys((state, given) for state in m.live for given in m.inputs)
    tests: list[tuple[In, ...]] = []
    while left:
        state, word = m.initial, tuple[In, ...]()
        while (way := _nearest(m, state, left)) is not None:
            for given in way:
                left.pop((state, given), None)
                state, _ = m.steps[state, given]
            word += way
        tests.append(word)
    return _tests(m, tests)


def _nearest(m: Mealy[S, In, Out], start: S, wanted: Collection[tuple[S, In]]) -> tuple[In, ...] | None:
    """A shortest way from here whose last step is a wanted one."""
    words: dict[S, tuple[In, ...]] = {start: ()}
    ahead = deque(words)
    while ahead:
        state = ahead.popleft()
        for given in () if state in m.ended else m.inputs:
            if (state, given) in wanted:
                return (*words[state], given)
            dest, _ = m.steps[state, given]
            if dest not in words:
                words[dest] = (*words[state], given)
                ahead.append(dest)
    return None


def laps(m: Mealy[S, In, Out], times: int) -> tuple[In, ...]:
    """One word that goes so often through every transition behind which the machine goes on."""
    onward = [
        (state, given) for state in m.live for given in m.inputs if m.steps[state, given][0] not in m.ended
    ]
    state, word = m.initial, tuple[In, ...]()
    for _ in range(times):
        left = dict.fromkeys(onward)
        while (way := _nearest(m, state, left)) is not None:
            for given in way:
                left.pop((state, given), None)
                state, _ = m.steps[state, given]
            word += way
    return word


def switches(m: Mealy[S, In, Out], n: int = 1) -> tuple[tuple[In, ...], ...]:
    """Every sequence of n + 1 consecutive transitions (n-switch cover, Chow 1978). `n` is 0 or more."""
    _not_negative("n", n)
    return _tests(m, (m.access[s] + word for s in m.live for word in product(m.inputs, repeat=n + 1)))


def w(m: Mealy[S, In, Out], extra: int = 0) -> tuple[tuple[In, ...], ...]:
    """The W method: T. S. Chow, Testing software design modeled by finite-state machines, 1978.

    The transition cover, then every word of up to `extra` inputs, then each word that tells states apart.
    """
    _not_negative("extra", extra)
    m = m.minimal()
    ways = product(_further(m, _transition_cover(m), extra), characterization(m))
    return _tests(m, (to + end for to, end in ways))


def wp(m: Mealy[S, In, Out], extra: int = 0) -> tuple[tuple[In, ...], ...]:
    """The Wp method: S. Fujiwara, G. v. Bochmann et al., Test selection based on finite state models, 1991.

    It promises what W does, with fewer tests. All words that tell states apart are tried once in each state
    (phase 1); behind the other transitions only those that tell their state from all others (phase 2).
    """
    _not_negative("extra", extra)
    m = m.minimal()
    return _tests(m, (*_phase_1(m, extra), *_phase_2(m, extra)))


def _phase_1(m: Mealy[S, In, Out], extra: int) -> Iterator[tuple[In, ...]]:
    cover = (m.access[state] for state in m.live)
    return (to + end for to, end in product(_further(m, cover, extra), characterization(m)))


def _phase_2(m: Mealy[S, In, Out], extra: int) -> Iterator[tuple[In, ...]]:
    known = {m.access[state] for state in m.live}
    identifying = identification(m, characterization(m))
    for to in _further(m, (to for to in _transition_cover(m) if to not in known), extra):
        for end in identifying.get(m.after(to), ((),)):
            yield to + end


def characterization(m: Mealy[S, In, Out]) -> tuple[tuple[In, ...], ...]:
    """Words that tell any two live states of a minimal machine apart; only () where there is but one."""
    pairs = tuple(combinations(m.live, 2))
    shortest = (telling_apart(m, s, m, t) for s, t in pairs)
    return _chosen(m, pairs, dict.fromkeys(word for word in shortest if word is not None))


def identification(
    m: Mealy[S, In, Out], telling: Iterable[tuple[In, ...]]
) -> Mapping[S, tuple[tuple[In, ...], ...]]:
    """For each live state, words that tell it from all others: of `telling`, or how one of these begins."""
    begun = dict.fromkeys(word[:n] for word in telling for n in range(len(word) + 1))
    return {s: _chosen(m, tuple((s, t) for t in m.live if t != s), begun) for s in m.live}


def _chosen(
    m: Mealy[S, In, Out], pairs: Collection[tuple[S, S]], words: Iterable[tuple[In, ...]]
) -> tuple[tuple[In, ...], ...]:
    """Few and short ones of these words that tell each pair apart as all of them do: the best one first."""
    shortest = sorted(words, key=len)
    told = {word: {(s, t) for s, t in pairs if m.seen(s, word) != m.seen(t, word)} for word in shortest}
    left = set(pairs)
    chosen: list[tuple[In, ...]] = []
    while left:
        chosen.append(max(shortest, key=lambda word: len(told[word] & left)))
        left -= told[chosen[-1]]
    return tuple(chosen) or ((),)


def _transition_cover(m: Mealy[S, In, Out]) -> Iterable[tuple[In, ...]]:
    """The state cover, and behind it each input."""
    cover = [m.access[state] for state in m.live]
    return dict.fromkeys((*cover, *((*word, given) for word in cover for given in m.inputs)))


def _further(m: Mealy[S, In, Out], words: Iterable[tuple[In, ...]], extra: int) -> Iterator[tuple[In, ...]]:
    """Each word with every one of up to `extra` inputs behind it that the machine can still be given."""
    for word in words:
        ahead = [word]
        for _ in range(extra):
            yield from ahead
            ahead = [(*way, given) for way in ahead for given in m.inputs if m.after(way) not in m.ended]
        yield from ahead


def _tests(m: Mealy[S, In, Out], words: Iterable[tuple[In, ...]]) -> tuple[tuple[In, ...], ...]:
    """These words, cut where the machine ends, without those that others begin with; at least ()."""
    cut = dict.fromkeys(((), *(word[: len(m.run(word))] for word in words)))
    begun = {word[:n] for word in cut for n in range(len(word))}
    return tuple(word for word in cut if word not in begun)


def _not_negative(name: str, number: int) -> None:
    if number < 0:
        raise ValueError(f"{name} is {number}: it must be 0 or more")
