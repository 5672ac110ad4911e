"""Antibody chains through a small BERT that the tests write as AntiBERTy's files lie; and through the real one."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import refused

from workloads.antibodies.chains import CHAINS, Chain, find_chain
from workloads.antibodies.network import load_antibody_model, read_pickled_tensors
from workloads.antibodies.recovery import Puzzle, measure_recovery, pseudo_log_likelihood
from workloads.errors import WorkloadError
from workloads.packaged import ANTIBERTY, PackagedWeights
from workloads.programs import resolve_program
from workloads.samplers.protocol import Generation
from workloads.samplers.registry import load_sampler

transformers = pytest.importorskip("transformers")

TOKENS = "[PAD] [UNK] [CLS] [SEP] [MASK] A C D E F G H I K L M N P Q R S T V W Y".split()
SIZES = {
    "vocab_size": 25,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_act": "gelu",
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
SHORT = Chain(name="short", residues="ACDEFGHIKL", loops=("CD", "FG", "IK"), source="made up for this test")


def write_package(root: Path, **changes: object) -> Path:
    """Files as the package has them: BERT's tensors, a pooler and three heads beside them, old names of tables."""
    torch.manual_seed(3)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.3)
    folder = root / "trained_models"
    inner = folder / "AntiBERTy_md_smooth"
    inner.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(TOKENS))
    (inner / "config.json").write_text(json.dumps({**SIZES, "model_type": "bert", "architectures": ["AntiBERTy"]}))
    others = {"bert.pooler.dense": 16, "cls.species": 6, "cls.chain": 2, "cls.graft": 2}
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors |= {f"{name}.weight": torch.ones(rows, 16) for name, rows in others.items()}
    tensors |= {"bert.embeddings.position_ids": torch.arange(40)[None], **changes}
    torch.save({name: value for name, value in tensors.items() if value is not None}, inner / "pytorch_model.bin")
    return folder


def reference(folder: Path):
    """The same network, loaded by transformers' own names."""
    model = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    state = torch.load(folder / "AntiBERTy_md_smooth" / "pytorch_model.bin", weights_only=True)
    model.load_state_dict({name: state[name] for name in model.state_dict()})
    return model.eval()


def test_heads_that_the_network_lacks_are_left_out_and_named(tmp_path):
    model = load_antibody_model(write_package(tmp_path))
    assert model.left_out == ("bert.pooler.dense", "cls.chain", "cls.graft", "cls.species")


@torch.no_grad()
def test_hidden_residues_at_the_end_give_the_logits_of_the_chain_in_order(tmp_path):
    folder = write_package(tmp_path)
    model, puzzle = load_antibody_model(folder), Puzzle(chain=SHORT, hidden=((1, 5), (0, 9)))
    prompt = puzzle.pose(model)
    ours = model(torch.cat((prompt, torch.full((2, 2), 4)), dim=1))
    in_order = torch.tensor([[2, *range(5, 15), 3]] * 2)
    for row, places in enumerate(puzzle.hidden):
        in_order[row, [place + 1 for place in places]] = 4
    theirs = reference(folder)(input_ids=in_order).logits
    for row, places in enumerate(puzzle.hidden):
        for column, place in enumerate(places):
            torch.testing.assert_close(ours[row, 10 + column, 5:], theirs[row, place + 1, 5:], rtol=1e-4, atol=1e-5)
    assert bool(torch.isinf(ours[..., :5]).all())


@torch.no_grad()
def test_pseudo_log_likelihood_is_that_of_masking_one_residue_at_a_time(tmp_path):
    folder = write_package(tmp_path)
    foreign, total = reference(folder), 0.0
    for place in range(10):
        tokens = torch.tensor([[2, *range(5, 15), 3]])
        tokens[0, place + 1] = 4
        total += float(foreign(input_ids=tokens).logits[0, place + 1, 5:].log_softmax(-1)[place])
    ours = pseudo_log_likelihood(load_antibody_model(folder), SHORT.residues, range(10))
    assert ours == pytest.approx(total / 10, rel=1e-4)


def test_recovery_counts_what_the_sampler_filled_in(tmp_path):
    model, puzzle = load_antibody_model(write_package(tmp_path)), Puzzle(chain=SHORT, hidden=((1, 5), (0, 3)))
    assert ["".join(TOKENS[token] for token in row) for row in puzzle.answers(model).tolist()] == ["CG", "AE"]
    llada = load_sampler("llada")

    def filled_with(first: str, second: str):
        ids = torch.tensor([[TOKENS.index(letter) for letter in row] for row in (first, second)])

        def sample(model, prompt_BP, options):
            tokens = torch.cat((prompt_BP, ids), dim=1)
            return Generation(tokens=tokens, prompt_length=10, committed_per_forward=(4,), rows_per_forward=(24,))

        return measure_recovery(model, puzzle, replace(llada, sample=sample), {})

    right = filled_with("CG", "AE")
    assert (right.framework_right, right.framework, right.loops_right, right.loops) == (2, 2, 2, 2)
    partly = filled_with("CW", "WW")  # C lies in the first loop
    assert (partly.framework_right, partly.loops_right, partly.forwards) == (0, 1, 1)
    true = [pseudo_log_likelihood(model, SHORT.residues, places) for places in puzzle.hidden]
    assert right.log_likelihood == pytest.approx(sum(true) / 2)
    assert partly.log_likelihood != right.log_likelihood
    assert measure_recovery(model, puzzle, llada, {"steps": 2}).forwards == 2


def test_frameworks_and_hidden_places_by_hand():
    assert "".join("-x"[inside] for inside in SHORT.framework) == "x--x--x--x"
    assert SHORT.hide(10, seed=1) == tuple(range(10))
    assert SHORT.hide(3, seed=1) == SHORT.hide(3, seed=1) != SHORT.hide(3, seed=2)
    for chain, length in (("trastuzumab", 120), ("adalimumab", 121)):
        assert len(find_chain(chain).residues) == length
        assert sum(CHAINS[chain].framework) + sum(map(len, CHAINS[chain].loops)) == length


class Runs:
    """Unpickles by writing a file: what a hostile pickle would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_that_hold_more_than_tensors_are_refused_unrun(tmp_path):
    torch.save({"x": Runs(tmp_path / "ran")}, tmp_path / "bad.bin")
    with pytest.raises(WorkloadError, match="cannot be read as tensors alone"):
        read_pickled_tensors(tmp_path / "bad.bin")
    assert not (tmp_path / "ran").exists()
    torch.save({"x": 1}, tmp_path / "number.bin")
    with pytest.raises(WorkloadError, match="must hold tensors by name"):
        read_pickled_tensors(tmp_path / "number.bin")
    (tmp_path / "cut.bin").write_bytes((tmp_path / "number.bin").read_bytes()[:100])
    with pytest.raises(WorkloadError, match="cannot be read"):
        read_pickled_tensors(tmp_path / "cut.bin")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cls.predictions.bias": None}, "lack 1 tensors of the network, the first is cls.predictions.bias"),
        ({"cls.other.weight": torch.ones(1)}, "'cls.other.weight' has no counterpart"),
        ({"cls.predictions.decoder.weight": torch.ones(25, 16)}, "must equal"),
    ],
)
def test_weights_that_do_not_fit_are_refused(changes, words, tmp_path):
    with pytest.raises(WorkloadError, match=words):
        load_antibody_model(write_package(tmp_path, **changes))


def test_absent_package_and_wrong_options_are_one_line(monkeypatch, capsys):
    absent = PackagedWeights(requirement="antiberty==0.1.3", module="roofscape_not_there", path="x")
    monkeypatch.setattr("workloads.antibodies.programs.ANTIBERTY", absent)
    with pytest.raises(WorkloadError, match=r"not installed; install it with pip install --no-deps antiberty==0\.1\.3"):
        resolve_program("antiberty")
    for spec, words in (
        ("antiberty:nobody", "known: trastuzumab, adalimumab"),
        ("antiberty@nothing", "unknown sampler"),
    ):
        with pytest.raises(WorkloadError, match=words):
            resolve_program(spec)
    with pytest.raises(WorkloadError, match="takes no prompt_length"):
        resolve_program("antiberty", prompt_length=3)
    assert "unknown antibody 'nobody'" in refused(capsys, monkeypatch, "recovery", "--chain", "nobody")


def test_program_runs_the_same_each_time_and_on_meta(tmp_path, monkeypatch):
    package = tmp_path / "fake_antiberty"
    write_package(package)
    monkeypatch.setattr(PackagedWeights, "find", lambda self, wanted_by: package / "trained_models")
    monkeypatch.setitem(CHAINS, "short", SHORT)
    first = resolve_program("antiberty:short", gen_length=4, steps=2, batch=2)
    generation = first.run()
    assert generation.committed_per_forward == (4, 4)
    assert torch.equal(generation.tokens, first.run().tokens)
    assert "cls.species" in first.notes[0]
    on_meta = resolve_program("antiberty:short", gen_length=4, steps=2, batch=2, device="meta")
    assert on_meta.run().rows_per_forward == generation.rows_per_forward == (24, 24)


@pytest.mark.slow
def test_published_weights_recover_frameworks_far_above_chance():
    try:
        folder = ANTIBERTY.find("test")
    except WorkloadError as error:
        pytest.skip(str(error))
    model, llada = load_antibody_model(folder), load_sampler("llada")
    for chain in CHAINS.values():
        found = measure_recovery(model, Puzzle.draw(chain, 36, draws=2), llada, {"steps": 4})
        assert found.framework_right / found.framework > 0.8  # guessing: 0.05
        assert found.loops_right / found.loops > 0.2
    true = pseudo_log_likelihood(model, CHAINS["trastuzumab"].residues, range(0, 120, 6))
    assert true > -1.5 > math.log(1 / 20)
