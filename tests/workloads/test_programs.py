import json
from pathlib import Path

import pytest
import torch

from profiler.capture import capture
from workloads import memory
from workloads.errors import WorkloadError
from workloads.lora import LoraOptions
from workloads.markers import current_marker
from workloads.presets import PRESETS_FOLDER, load_preset, parameter_count
from workloads.program import Program
from workloads.programs import resolve_program
from workloads.samplers.protocol import Generation

SCRIPT = """
import neighbor
import torch

WEIGHT = torch.ones(4, 4)


def main():
    return WEIGHT @ WEIGHT * neighbor.FACTOR


def other():
    return "other"
"""


@pytest.fixture
def tiny_preset(tmp_path: Path) -> Path:
    text = (PRESETS_FOLDER / "diffusion-100m.toml").read_text()
    for line, replacement in (
        ("layers = 12", "layers = 1"),
        ("d_model = 768", "d_model = 16"),
        ("ffn = 2048", "ffn = 16"),
        ("vocab = 32768", "vocab = 20"),
        ("mask_id = 32767", "mask_id = 7"),
        ("max_length = 4096", "max_length = 64"),
    ):
        assert line in text
        text = text.replace(line, replacement)
    file = tmp_path / "tiny.toml"
    file.write_text(text)
    return file


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "neighbor.py").write_text("FACTOR = 2.0\n")
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    return file


def run(program: Program) -> Generation:
    result = program.run()
    assert isinstance(result, Generation)
    return result


def test_preset_is_run_by_the_sampler_of_its_kind(tiny_preset: Path) -> None:
    program = resolve_program(
        str(tiny_preset), batch=2, prompt_length=6, gen_length=8, steps=4, block_length=4, sampler_options={"seed": 3}
    )

    first, again = run(program), run(program)

    assert first.tokens.shape == (2, 14)
    assert first.nfe == 4
    assert torch.equal(first.tokens, again.tokens)
    assert not (first.tokens == 7).any()
    assert program.preset is not None
    assert program.parameters_count == parameter_count(program.preset)
    assert (program.device, program.dtype, program.vocab) == ("cpu", "float32", 20)


def test_a_sampler_can_be_named_behind_the_preset_or_apart(tiny_preset: Path) -> None:
    behind = resolve_program(f"{tiny_preset}@autoregressive", prompt_length=4, gen_length=5)
    apart = resolve_program(str(tiny_preset), sampler="autoregressive", prompt_length=4, gen_length=5)

    assert run(behind).rows_per_forward == (4, 1, 1, 1, 1)
    assert torch.equal(run(behind).tokens, run(apart).tokens)


def test_single_forward_of_a_preset(tiny_preset: Path) -> None:
    program = resolve_program(f"{tiny_preset}@forward", batch=3, seq_len=9)
    logits = program.run()
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (3, 9, 20)
    assert "one forward over 3 x 9 tokens" in program.description


def test_prompts_are_the_same_on_every_run_and_follow_the_seed(tiny_preset: Path) -> None:
    prompts = [
        run(resolve_program(str(tiny_preset), prompt_length=30, gen_length=2, seed=seed)).tokens[:, :30]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(prompts[0], prompts[1])
    assert not torch.equal(prompts[0], prompts[2])


def test_full_size_model_is_ready_on_meta() -> None:
    program = resolve_program("LLaDA-8B", device="meta", prompt_length=16, gen_length=4, steps=1)
    assert program.dtype == "bfloat16"
    assert run(program).tokens.device.type == "meta"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_hugging_face_model_runs_one_forward(tmp_path: Path, device: str) -> None:
    pytest.importorskip("transformers")
    file = tmp_path / "config.json"
    table = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
        "max_position_embeddings": 16,
    }
    file.write_text(json.dumps(table))
    program = resolve_program(f"hf:{file}", device=device, batch=2, seq_len=16)
    phases = []

    handle = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda _module, _inputs: phases.append(current_marker().phase)
    )
    try:
        output = program.run()
    finally:
        handle.remove()

    assert output.logits.shape == (2, 16, 100)  # type: ignore[attr-defined]
    assert output.logits.device.type == device  # type: ignore[attr-defined]
    assert set(phases) == {"forward"}
    with pytest.raises(WorkloadError, match="the model has 16 positions, got seq_len = 17"):
        resolve_program(f"hf:{file}", device="meta", seq_len=17)
    with pytest.raises(WorkloadError, match="a single forward takes no prompt_length, gen_length"):
        resolve_program(f"hf:{file}", device="meta", prompt_length=4, gen_length=4)


def test_script_runs_its_main_or_the_named_function(script: Path) -> None:
    result = resolve_program(f"py:{script}").run()
    assert isinstance(result, torch.Tensor)
    assert result.tolist() == [[8.0] * 4] * 4
    assert resolve_program(f"py:{script}:other").run() == "other"


def test_script_makes_its_tensors_on_the_device_of_the_program(script: Path) -> None:
    result = resolve_program(f"py:{script}", device="meta").run()
    assert isinstance(result, torch.Tensor)
    assert result.device.type == "meta"


def test_script_errors_are_one_line_and_its_own_exceptions_pass(script: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"has no function 'mian'; it has: main, other"):
        resolve_program(f"py:{script}:mian")
    with pytest.raises(WorkloadError, match=r"absent\.py: cannot be read"):
        resolve_program(f"py:{tmp_path / 'absent.py'}")
    with pytest.raises(WorkloadError, match="a script takes no seq_len"):
        resolve_program(f"py:{script}", seq_len=4)
    failing = tmp_path / "failing.py"
    failing.write_text("def main():\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        resolve_program(f"py:{failing}").run()


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (
            "llada-9b",
            {},
            r"unknown program 'llada-9b'; did you mean 'llada-8b'\? give a model preset \(.*\), PRESET@forward",
        ),
        ("hf:", {}, r"unknown program 'hf:'"),
        ("mlp.py:step", {}, r"unknown program 'mlp.py:step'; a Python file is given as py:mlp.py:step"),
        ("py:mlp.py", {"batch": 4}, r"a script takes no batch"),
        ("py:mlp.py", {"dtype": "bfloat16"}, r"a script takes no dtype"),
        ("ar-100m@lada", {}, r"unknown sampler 'lada'; did you mean 'llada'\? known: .*autoregressive"),
        ("ar-100m@llada", {"sampler": "autoregressive"}, r"names 'llada', but sampler says 'autoregressive'"),
        ("ar-100m", {"steps": 4}, r"sampler 'autoregressive' has no option 'steps'"),
        ("ar-100m", {"seq_len": 4}, r"takes no seq_len"),
        ("ar-100m@forward", {"gen_length": 4}, r"a single forward takes no gen_length"),
        ("ar-100m", {"device": "tpu"}, r"device must be cpu, cuda, cuda:N or meta, got 'tpu'"),
        ("ar-100m", {"dtype": "fp8"}, r"dtype must be one of bfloat16, float16, float32, float64, got 'fp8'"),
        ("ar-100m", {"batch": 0}, r"batch must be > 0, got 0"),
        ("ar-100m", {"prompt_length": -1}, r"prompt_length must be > 0, got -1"),
        ("ar-100m", {"prompt_length": 4096}, r"ar-100m has 4096 positions, got 4224 tokens"),
        ("diffusion-100m", {"gen_length": 10, "block_length": 3}, r"block_length must divide gen_length = 10"),
    ],
)
def test_what_cannot_be_built_is_one_line(spec: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message) as error:
        resolve_program(spec, **options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_weights_larger_than_the_machine_are_refused_before_they_are_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_capacity_bytes", lambda _device: 10**9)
    with pytest.raises(WorkloadError, match=r"its weights take 32\.1 GB, cpu has 1\.0 GB; use device meta"):
        resolve_program("llada-8b")


def test_script_function_with_arguments_is_refused_before_it_runs(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("def generate(model, ids, n=3, *rest, **more):\n    return 1\n")
    with pytest.raises(WorkloadError, match=r"the function needs model, ids; name one .* return generate\(\.\.\.\)"):
        resolve_program(f"py:{script}:generate")


@pytest.mark.parametrize(
    "text",
    [
        "import torch\nx = torch.ones(2, 3)\ny = x @ x.T\n",
        "import torch\nif __name__ == '__main__':\n    torch.ones(2, 3) @ torch.ones(3, 2)\n    raise SystemExit(0)\n",
    ],
)
def test_script_without_main_is_recorded_as_a_whole(tmp_path, text):
    script = tmp_path / "plain.py"
    script.write_text(text)
    program = resolve_program(f"py:{script}")
    with capture() as recording:
        program.run()
    products = [op for op in recording.trace.ops if op.kind == "gemm"]
    assert [op.flops for op in products] == [2 * 2 * 3 * 2]
    assert program.description == f"all of {script}"


def test_script_without_main_sees_no_arguments_of_ours_and_tells_of_its_failure(tmp_path):
    script = tmp_path / "plain.py"
    script.write_text("import sys\nsys.exit(len(sys.argv) + 2)\n")
    with pytest.raises(WorkloadError, match=r"plain\.py ended with exit code 3"):
        resolve_program(f"py:{script}").run()


@pytest.mark.parametrize(
    "text",
    [
        "def main():\n    return 7\n",
        "if True:\n    def main():\n        return 7\n",
        "try:\n    main = lambda: 7\nexcept ImportError:\n    pass\n",
        "from seven import *\n",
        "from collections.abc import Callable\nmain: Callable[[], int] = lambda: 7\n",
        "main, rest = (lambda: 7), None\n",
        "match 1:\n    case 1:\n        def main():\n            return 7\n",
        "from seven import other as main\n",
    ],
)
def test_script_runs_its_main_wherever_that_comes_from(tmp_path, text):
    (tmp_path / "seven.py").write_text("def main():\n    return 7\n\n\nother = main\n")
    script = tmp_path / "script.py"
    script.write_text(text)
    assert resolve_program(f"py:{script}").run() == 7


def test_script_that_reads_a_value_on_meta_is_told_where(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import torch\ndef main():\n    x = torch.ones(3)\n    return 1 if x.sum() > 2 else 0\n")
    assert resolve_program(f"py:{script}").run() == 1
    program = resolve_program(f"py:{script}", device="meta")
    with pytest.raises(WorkloadError, match=r"looks at a value \(script\.py, line 4: return 1 if .*--device cpu"):
        program.run()


def test_skewed_routing_crowds_fewer_experts():
    """32 tokens choose 8 of 256 experts each: evenly all 256 run, by a steep law little more than the first 8."""

    def bytes_of_experts(skew):
        with capture() as recording:
            resolve_program("llada2.0-mini@forward", device="meta", seq_len=32, expert_skew=skew).run()
        return recording.trace.to_frame().query("kind == 'gemm'").read_weights_bytes.sum()

    assert bytes_of_experts(0.0) == bytes_of_experts(None)
    assert bytes_of_experts(3.0) < 0.5 * bytes_of_experts(0.0)


def test_adapters_cost_two_thin_products_a_layer_and_nothing_once_merged():
    """Rank 4 beside four layers of ar-100m: 2 * 4 * (inputs + outputs) FLOPs a row, and an addition to each output."""

    def captured(**options):
        program = resolve_program("ar-100m@forward", device="meta", seq_len=8, **options)
        with capture() as recording:
            program.run()
        return program, recording.trace.to_frame().query("kind == 'gemm'")

    preset = load_preset("ar-100m")
    queries, keys = preset.heads * preset.head_dim, preset.kv_heads * preset.head_dim
    weights_of_a_layer = 4 * (2 * (preset.d_model + queries) + 2 * (preset.d_model + keys))
    lora = LoraOptions(rank=4)
    (bare, without), (adapted, beside), (plain, merged) = (
        captured(),
        captured(lora=lora),
        captured(lora=lora, merge_lora=True),
    )
    flops_of_a_row = 2 * weights_of_a_layer + 2 * keys + queries + preset.d_model
    assert beside.flops.sum() - without.flops.sum() == preset.layers * 8 * flops_of_a_row
    assert adapted.parameters_count - bare.parameters_count == preset.layers * weights_of_a_layer
    assert merged.flops.tolist() == without.flops.tolist()
    assert plain.parameters_count == bare.parameters_count
    with pytest.raises(WorkloadError, match="no adapters to merge"):
        captured(merge_lora=True)
    with pytest.raises(WorkloadError, match="a single forward takes no lora"):
        resolve_program("hf:config.json", lora=lora)
