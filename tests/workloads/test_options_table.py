"""Options of samplers as `roofscape samplers NAME` lists them."""

import pytest

from workloads.samplers.options_table import describe_options
from workloads.samplers.registry import list_samplers, load_sampler

OWN = '''"""Own: nothing."""
from dataclasses import dataclass
from workloads.samplers.protocol import SamplerOptions

@dataclass(frozen=True, slots=True, kw_only=True)
class Options(SamplerOptions):
    """Options of own.

    Attributes:
        width: how many at
            a time.
        limit: the most, None for all.
    """

    width: int
    limit: float | None = None
    greedy: bool = False

def sample(model, prompt_BP, options):
    raise NotImplementedError
'''


def test_own_options_come_first_with_type_default_and_meaning(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    options = describe_options(load_sampler(path))
    assert [option.name for option in options] == ["width", "limit", "greedy", "gen_length", "temperature", "seed"]
    width, limit, greedy = options[:3]
    assert (width.type, width.default, width.meaning) == ("int", "", "how many at a time.")
    assert (limit.type, limit.default, limit.meaning) == ("float or none", "none", "the most, None for all.")
    assert (greedy.type, greedy.default, greedy.meaning) == ("bool", "false", "")


@pytest.mark.parametrize("name", [listing.name for listing in list_samplers()])
def test_every_option_of_a_shipped_sampler_is_explained_and_reads_back(name):
    sampler = load_sampler(name)
    options = describe_options(sampler)
    assert all(option.meaning for option in options)
    given = {option.name: option.default or "64" for option in options}
    assert sampler.build_options(given) == sampler.build_options({"gen_length": 64})
