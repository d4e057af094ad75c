"""Seeds depend on the run's seed, the query's id and the sample's number alone, and stay as they are."""

from megatron_sft.traces.work import seed_of


def test_seeds_stay_as_they_are() -> None:
    # sha256 of '[0, "q1", 0]' and so on, its first 32 bits halved; traces on file depend on them.
    assert [seed_of(0, "q1", 0), seed_of(0, "q1", 1), seed_of(1, "q1", 0)] == [8981974, 1065248322, 551830773]


def test_seeds_differ() -> None:
    seeds = {seed_of(run, f"q{query}", sample) for run in range(3) for query in range(50) for sample in range(32)}
    assert len(seeds) == 3 * 50 * 32
    assert max(seeds) < 2**31
