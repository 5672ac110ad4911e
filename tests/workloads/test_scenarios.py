"""Scenarios: counts from formulas worked by hand, and that nothing spared changes what comes out."""

from dataclasses import replace

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.rearranged import rearrange
from workloads.samplers.registry import load_sampler
from workloads.scenarios.networks import build_network, check_answers, given_tokens
from workloads.scenarios.parser import FOLDER, list_scenarios, load_scenario
from workloads.scenarios.preparing import prepare
from workloads.scenarios.scenario import Contender, EditJob, InfillJob, RolloutsJob
from workloads.scenarios.scoring import Scoring, score


def tokens(batch, length, vocab=49):
    return torch.randint(0, vocab, (batch, length), generator=torch.Generator().manual_seed(1))


def contender(sampler, way=None, tokens_per_step=None, **options):
    options = tuple(options.items())
    return Contender(
        label=sampler, model="tiny", sampler=sampler, options=options, way=way, tokens_per_step=tokens_per_step
    )


# A text of 24 tokens, 2 of them: prefix 10, hole h = 4, suffix s = 10. Rows of each forward, of both sequences.
INFILL = InfillJob(batch=2, prefix_length=10, hole_length=4, suffix_length=10)
# Edits at 8 (4 tokens) and 16 (4 tokens): 8 tokens in two holes; regeneration writes the 16 from 8 on.
EDIT = EditJob(batch=2, text_length=24, edits=((8, 4), (16, 4)))


@pytest.mark.parametrize(
    ("who", "job", "asked", "written", "rows"),
    [
        # h + s forwards: the prefill gives the first token, each later one takes a row
        (contender("autoregressive"), INFILL, 8, 28, [20] + 13 * [2]),
        # prefix, suffix and three marks are prefilled; h forwards
        (contender("autoregressive", way="fim"), INFILL, 8, 8, [2 * 23] + 3 * [2]),
        # the prefix is cached, its last row shown again: L - first forwards of one row
        (contender("autoregressive"), EDIT, 16, 32, 16 * [2]),
        # T forwards over all L rows
        (contender("llada"), INFILL, 8, 8, 4 * [48]),
        (contender("llada", tokens_per_step=2), INFILL, 8, 8, 2 * [48]),
        (contender("llada", tokens_per_step=4), EDIT, 16, 16, 2 * [48]),
        # each block once over all rows, then its own rows alone
        (contender("fast_dllm", cache="dual", block_length=4), EDIT, 16, 16, 2 * [48, 8, 8, 8]),
        # block diffusion from left to right: blocks from 8 on, two commits a step, one forward stores a block
        (
            contender("sdar", way="regenerate", block_length=4, assumed_commits=2, temperature=0.0),
            EDIT,
            16,
            32,
            [2] + 4 * [8, 8, 8],
        ),
    ],
)
def test_filling_costs_what_the_formula_says(ar_model, diffusion_model, who, job, asked, written, rows):
    model = ar_model if who.sampler == "autoregressive" else diffusion_model
    text = tokens(2, 24)
    prepared = prepare(model, who, job, text, 0)
    outcome = prepared.run()
    assert (prepared.asked, prepared.written) == (asked, written)
    assert list(outcome.rows_per_forward) == rows
    assert outcome.text.shape == text.shape
    again = prepared.run()
    assert torch.equal(again.text, outcome.text)
    assert again.rows_per_forward == outcome.rows_per_forward


def test_holes_are_filled_and_nothing_else_changes(diffusion_model):
    text = tokens(2, 24)
    outcome = prepare(diffusion_model, contender("llada"), EDIT, text, 0).run()
    outside = [place for place in range(24) if not (8 <= place < 12 or 16 <= place < 20)]
    assert torch.equal(outcome.text[:, outside], text[:, outside])
    assert (outcome.text != diffusion_model.mask_id).all()


def test_hole_in_the_middle_gets_what_the_network_says_of_the_text_in_order(diffusion_model):
    text = tokens(2, 24)
    masked = text.clone()
    masked[:, 10:14] = diffusion_model.mask_id
    with torch.inference_mode():
        logits = diffusion_model(masked)
        logits[..., diffusion_model.mask_id] = -torch.inf
    outcome = prepare(diffusion_model, contender("llada", tokens_per_step=4), INFILL, text, 0).run()  # all at once
    assert torch.equal(outcome.text[:, 10:14], logits[:, 10:14].argmax(-1))


def test_rearranged_network_gives_the_same_logits_in_another_order(diffusion_model):
    text, places = tokens(2, 12), [3, 0, 11, 5, 4, 1, 2, 10, 9, 6, 8, 7]
    with torch.inference_mode():
        torch.testing.assert_close(
            rearrange(diffusion_model, places)(text[:, places]), diffusion_model(text)[:, places], atol=1e-4, rtol=1e-4
        )
        cos = diffusion_model.cos_TC.clone()
        rearrange(diffusion_model, places)
        assert torch.equal(diffusion_model.cos_TC, cos)


def test_causal_network_fills_no_hole(ar_model):
    with pytest.raises(WorkloadError, match="left to right"):
        prepare(ar_model, contender("autoregressive", way="hole"), INFILL, tokens(2, 24), 0)


def test_one_fim_prompt_has_one_hole(ar_model):
    with pytest.raises(WorkloadError, match="fills one hole, got 2"):
        prepare(ar_model, contender("autoregressive", way="fim"), EDIT, tokens(2, 24), 0)


def test_kept_prefix_changes_no_token(ar_model):
    text = tokens(2, 24)
    sampler = load_sampler("autoregressive")
    plain = sampler.sample(ar_model, text[:, :8], sampler.build_options({"gen_length": 16}))
    assert torch.equal(prepare(ar_model, contender("autoregressive"), EDIT, text, 0).run().text, plain.tokens)


@pytest.mark.parametrize(
    ("sampler", "options", "rows"),
    [
        # one prefill of 2 prompts of 8; then 4 tokens one by one for 6 samples
        ("autoregressive", {"temperature": 1.0}, [16, 6, 6, 6]),
        # block-causal prefill shared; one block of 4 in two steps, and stored
        ("sdar", {"block_length": 4, "assumed_commits": 2}, [16, 24, 24, 24]),
        # a prompt that sees its answer is shown with each of them
        ("llada", {"temperature": 1.0, "steps": 2}, [72, 72]),
    ],
)
def test_samples_share_a_prompt_where_it_depends_on_nothing_behind(ar_model, diffusion_model, sampler, options, rows):
    model = ar_model if sampler == "autoregressive" else diffusion_model
    job = RolloutsJob(prompts=2, samples=3, prompt_length=8, gen_length=4)
    prompts = tokens(2, 8)
    outcome = prepare(model, contender(sampler, **options), job, prompts, 5).run()
    assert list(outcome.rows_per_forward) == rows
    loaded = load_sampler(sampler)
    built = loaded.build_options({**options, "gen_length": 4, "seed": 5})
    assert torch.equal(outcome.text, loaded.sample(model, prompts.repeat_interleave(3, 0), built).tokens)


def test_rollouts_are_scored_in_micro_batches(diffusion_model):
    job = RolloutsJob(
        prompts=2, samples=3, prompt_length=8, gen_length=4, log_prob="coupled_grpo", log_prob_passes=2, micro_batch=4
    )
    outcome = prepare(diffusion_model, contender("llada", steps=2), job, tokens(2, 8), 0).run()
    assert list(outcome.rows_per_forward) == [72, 72] + 2 * [48, 48, 24, 24]  # micro-batches of 4 and 2, each twice
    assert outcome.log_prob_BG.shape == (6, 4)
    assert (outcome.log_prob_BG < 0).all()


def test_causal_scores_sum_to_the_probability_of_the_answer(ar_model):
    text = tokens(2, 12)
    scores = score(ar_model, text, 8, Scoring(), None)
    with torch.inference_mode():
        log_prob = torch.log_softmax(ar_model(text), -1)
    by_hand = torch.stack([log_prob[:, place - 1].gather(-1, text[:, place, None])[:, 0] for place in range(8, 12)], 1)
    torch.testing.assert_close(scores.log_prob_BG, by_hand)
    assert scores.rows_per_forward == (22,)


def test_diffu_grpo_reads_the_answer_from_masks_alone(diffusion_model):
    text, scoring = tokens(2, 12), Scoring(p_mask_prompt=0.0)
    masked = text.clone()
    masked[:, 8:] = diffusion_model.mask_id
    with torch.inference_mode():
        by_hand = torch.log_softmax(diffusion_model(masked), -1)[:, 8:].gather(-1, text[:, 8:, None])[..., 0]
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(score(diffusion_model, text, 8, scoring, generator).log_prob_BG, by_hand)


@pytest.mark.slow
def test_trained_models_fill_a_missing_row():
    scenario = load_scenario("infill-sudoku", {"problems": 40})
    kept = {}
    for who in scenario.contenders:
        network = build_network(scenario, who, scenario.jobs[0])
        checked = check_answers(scenario, who, scenario.jobs[0], network)
        assert checked.answers == 40
        assert checked.solved >= 36
        kept[who.sampler] = checked.kept
    assert kept["llada"] == kept["fast_dllm"] == kept["udlm"] == 40
    assert kept["autoregressive"] < 40  # it writes another grid, also right


@pytest.mark.slow
def test_every_shipped_scenario_can_be_prepared_at_full_size():
    scenarios = list_scenarios()
    assert {scenario.kind for scenario in scenarios} == {"generate", "budget", "rollouts", "infill", "edit"}
    assert [scenario.name for scenario in scenarios] == sorted(path.stem for path in FOLDER.glob("*.toml"))
    for scenario in scenarios:
        for who in scenario.contenders:
            job = replace(scenario.jobs[0])
            network = build_network(scenario, who, job)
            prepare(network, who, job, given_tokens(scenario, who, job, network), scenario.seed)


SMALL = """
schema = 1
title = "small"
kind = "infill"
[job]
batch = [1, 2]
hole_length = [4, 8]
[[contender]]
model = "ar-100m"
sampler = "autoregressive"
"""


def test_lists_stand_for_every_combination(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    jobs = load_scenario(tmp_path / "small.toml").jobs
    assert [(job.batch, job.hole_length) for job in jobs] == [(1, 4), (1, 8), (2, 4), (2, 8)]
    assert load_scenario(tmp_path / "small.toml", {"batch": 3, "seed": 7}).seed == 7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch = [1, 2]", "bach = 1", "unknown key job.bach; known: batch, prefix_length, hole_length, suffix_length"),
        ("batch = [1, 2]", "batch = 0", "batch must be >= 1, got 0"),
        ("batch = [1, 2]", "batch = true", "job.batch must be a whole number, got True"),
        (
            'kind = "infill"',
            'kind = "fill"',
            "kind must be one of generate, budget, rollouts, infill, edit, got 'fill'",
        ),
        ('sampler = "autoregressive"', "", "contender.sampler is missing"),
        ('sampler = "autoregressive"', 'sampler = "autoregressive"\nway = "x"', "way must be one of hole, regenerate"),
        ('title = "small"', 'title = "small"\ntask = "sudoku"', "device must be cpu"),
        ('title = "small"', 'title = "small"\nproblem = 3', "unknown key problem; known: title"),
        ("schema = 1", "schema = 2", "must begin with schema = 1"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, old, new, message):
    (tmp_path / "small.toml").write_text(SMALL.replace(old, new))
    with pytest.raises(WorkloadError) as refused:
        load_scenario(tmp_path / "small.toml")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("edits", [[[0, 2]], [[4, 2], [5, 2]], [[250, 8]], [[4, 0]], []])
def test_edits_lie_in_order_inside_the_text(edits):
    with pytest.raises(WorkloadError, match="edits must"):
        EditJob(text_length=256, edits=tuple(map(tuple, edits)))
