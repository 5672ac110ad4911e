import pytest
import simpy

from simulator.shared_rate import SharedRate


def finish_times(jobs: list[tuple[int, int, float]]) -> list[int]:
    """When each (start_ps, duration_ps, demand) ends."""
    env = simpy.Environment()
    shared = SharedRate(env)
    ends = [0] * len(jobs)

    def play(index, start_ps, duration_ps, demand):
        yield env.timeout(start_ps)
        yield shared.run(duration_ps, demand)
        ends[index] = env.now

    for index, job in enumerate(jobs):
        env.process(play(index, *job))
    env.run()
    return ends


def test_a_job_alone_takes_exactly_its_duration():
    assert finish_times([(7, 1_000_003, 0.37)]) == [7 + 1_000_003]


def test_two_full_jobs_share_the_rate_equally():
    # Both at half rate until the short one ends at 2,000; the rest of the long one at full rate: 1,000 more.
    assert finish_times([(0, 1000, 1.0), (0, 2000, 1.0)]) == [2000, 3000]


def test_a_later_job_slows_the_first_from_its_arrival():
    # First alone for 500, then both at half rate: the first needs 1,000 more, the second has then 500 left alone.
    assert finish_times([(0, 1000, 1.0), (500, 1000, 1.0)]) == [1500, 2000]


def test_jobs_whose_demands_fit_together_do_not_slow_each_other():
    assert finish_times([(0, 1000, 0.25), (0, 1000, 0.75)]) == [1000, 1000]


def test_what_a_small_job_cannot_use_goes_to_the_others():
    # Demands 0.2 and 1.0: the second runs at 0.8 until 1,000 and has 200 left for the full rate.
    assert finish_times([(0, 1000, 0.2), (0, 1000, 1.0)]) == [1000, 1200]


def test_an_empty_job_ends_at_once():
    assert finish_times([(5, 0, 1.0)]) == [5]


@pytest.mark.parametrize("count", (2, 3, 7))
def test_work_is_conserved(count):
    ends = finish_times([(0, 1000 * (i + 1), 1.0) for i in range(count)])
    assert max(ends) == sum(1000 * (i + 1) for i in range(count))


def loaded_behind(jobs, wanted_ps: int, stop_ps: int) -> tuple[int, list[int]]:
    """(how much of a job behind the others, begun at 0, is done when it is stopped, when the others end)."""
    env = simpy.Environment()
    shared = SharedRate(env)
    ends = [0] * len(jobs)
    done = []

    def play(index, start_ps, duration_ps, demand):
        yield env.timeout(start_ps)
        yield shared.run(duration_ps, demand)
        ends[index] = env.now

    def load():
        stop = shared.run_behind(wanted_ps)
        yield env.timeout(stop_ps)
        done.append(stop())

    env.process(load())
    for index, job in enumerate(jobs):
        env.process(play(index, *job))
    env.run()
    return done[0], ends


def test_a_job_behind_takes_what_is_left_and_slows_nobody():
    # Nothing while a full job runs from 100 to 600; half the rate beside one of demand 0.5 from 700 to 900.
    jobs = [(100, 500, 1.0), (700, 200, 0.5)]
    assert loaded_behind(jobs, wanted_ps=10_000, stop_ps=1000) == (100 + 100 + 100 + 100, [600, 900])


def test_a_job_behind_ends_when_it_is_done():
    assert loaded_behind([], wanted_ps=300, stop_ps=1000) == (300, [])
    assert loaded_behind([(0, 1000, 1.0)], wanted_ps=300, stop_ps=1000) == (0, [1000])
