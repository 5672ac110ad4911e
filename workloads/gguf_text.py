"""The tokenizer that a GGUF file carries: byte-level BPE from its own tokens and merges."""

from typing import Any

from workloads.errors import WorkloadError
from workloads.gguf_files import GgufFile

_SPLITTERS = ("smollm",)  # tokenizer.ggml.pre: digits one by one, then GPT-2's pattern
_CONTROL = 3  # llama.cpp's token type of tokens such as <|im_start|>


def tokenizer_of(file: GgufFile) -> Any:
    """A `tokenizers.Tokenizer` that splits text as the file's model was trained on.

    Raises:
        WorkloadError: the file's tokenizer is of another kind, or the package is not installed.
    """
    try:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - optional
    except ImportError:
        raise WorkloadError("tokenizers of GGUF files need the tokenizers package: pip install tokenizers") from None
    kind, splitter = file.setting("tokenizer.ggml.model"), file.setting("tokenizer.ggml.pre")
    if kind != "gpt2" or splitter not in _SPLITTERS:
        raise WorkloadError(
            f"weights {file.path}: tokenizer.ggml.model must be gpt2 and tokenizer.ggml.pre one of "
            f"{', '.join(_SPLITTERS)}, got {kind!r} and {splitter!r}"
        )
    tokens, merges = file.setting("tokenizer.ggml.tokens"), file.setting("tokenizer.ggml.merges")
    types = file.setting("tokenizer.ggml.token_type")
    if not tokens or not merges or not types or len(types) != len(tokens):
        raise WorkloadError(f"weights {file.path}: lacks the tokens, token types or merges of its tokenizer")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [AddedToken(tokens[index], special=True) for index, each in enumerate(types) if each == _CONTROL]
    tokenizer.add_special_tokens(control)
    return tokenizer
