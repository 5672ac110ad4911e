"""Image presets: the configurations that make a text-to-image model, one TOML file per model; needs no torch."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from workloads.errors import WorkloadError
from workloads.preset_files import find_preset_file, list_preset_files, read_preset_table

Prediction = Literal["noise", "flow"]
Guidance = Literal["doubled", "distilled"]
Config = Mapping[str, Any]
SCHEMA_VERSION = 1
PRESETS_FOLDER = Path(__file__).with_name("presets")
DENOISER_CLASSES = (
    "DiTTransformer2DModel",
    "UNet2DConditionModel",
    "PixArtTransformer2DModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
    "SanaTransformer2DModel",
)
TEXT_ENCODER_CLASSES = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel", "Gemma2Model")
# Of each autoencoder, which argument says the channels of the decoder's levels.
_VAE_LEVELS = {"AutoencoderKL": "block_out_channels", "AutoencoderDC": "decoder_block_out_channels"}
# Arguments that are read before the network is built, so a preset must not leave them to the library's defaults.
_REQUIRED = {
    "DiTTransformer2DModel": ("patch_size", "num_embeds_ada_norm"),
    "SD3Transformer2DModel": ("patch_size",),
    "PixArtTransformer2DModel": ("patch_size",),
    "UNet2DConditionModel": ("block_out_channels",),
    "SanaTransformer2DModel": ("patch_size",),
    **{vae: (levels, "latent_channels") for vae, levels in _VAE_LEVELS.items()},
    **dict.fromkeys(TEXT_ENCODER_CLASSES, ("vocab_size",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """A network of `diffusers` or `transformers`: the name of its class, and the arguments that build it.

    Attributes:
        class_name: the class.
        config: its arguments, or those of its configuration class; what is left out keeps the library's default.
        tokens: length of a text, for text encoders.
    """

    class_name: str
    config: Config
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePreset:
    """A text-to-image model as the libraries' configurations give it.

    Attributes:
        name: the file's stem.
        source: where the figures come from; a made-up model says so.
        prediction: `noise` is predicted by models trained by a noise schedule, a `flow`'s velocity by flow matching.
        guidance: `doubled` runs every step with and without the text; `distilled` is given its strength as an input.
        sampler: the one that suits it.
        steps: usual number of steps.
        cfg_scale: usual strength of guidance.
        image_px: height and width of the image.
        schedule: arguments of the scheduler classes of `diffusers`, and for flows `shift` or the resolution-dependent
            `base_shift`, `max_shift`, `base_image_seq_len`, `max_image_seq_len`.
        denoiser: the network that is run at every step.
        vae: the autoencoder, of which only the decoder is run.
        text_encoders: in the order in which the denoiser wants them.
    """

    name: str
    source: str
    prediction: Prediction
    guidance: Guidance
    sampler: str
    steps: int
    cfg_scale: float
    image_px: int
    schedule: Config
    denoiser: NetworkConfig
    vae: NetworkConfig
    text_encoders: tuple[NetworkConfig, ...] = field(default=())

    def __post_init__(self) -> None:
        where = f"image preset {self.name!r}"
        _check_choice(where, "prediction", self.prediction, get_args(Prediction))
        _check_choice(where, "guidance", self.guidance, get_args(Guidance))
        _check_choice(where, "denoiser.class", self.denoiser.class_name, DENOISER_CLASSES)
        _check_choice(where, "vae.class", self.vae.class_name, tuple(_VAE_LEVELS))
        for encoder in self.text_encoders:
            _check_choice(where, "text_encoders.class", encoder.class_name, TEXT_ENCODER_CLASSES)
            if encoder.tokens <= 0:
                raise WorkloadError(f"{where}: text_encoders.tokens must be > 0, got {encoder.tokens}")
        for network in (self.denoiser, self.vae, *self.text_encoders):
            missing = [key for key in _REQUIRED.get(network.class_name, ()) if key not in network.config]
            if missing:
                raise WorkloadError(f"{where}: the config of {network.class_name} lacks {', '.join(missing)}")
        for name in ("steps", "image_px", "cfg_scale"):
            if not getattr(self, name) > 0:
                raise WorkloadError(f"{where}: {name} must be > 0, got {getattr(self, name)}")
        if not self.source.strip():
            raise WorkloadError(f"{where}: source must say where the figures come from, got an empty text")

    @property
    def vae_factor(self) -> int:
        """Image pixels per latent position along each side: the decoder doubles between its levels."""
        return int(2 ** (len(self.vae.config[_VAE_LEVELS[self.vae.class_name]]) - 1))


def list_image_presets() -> tuple[str, ...]:
    """Names of the image presets that ship with Roofscape, sorted."""
    return list_preset_files(PRESETS_FOLDER)


def load_image_preset(name_or_path: str | Path) -> ImagePreset:
    """Read an image preset by name (in any case) or from a TOML file of your own.

    Raises:
        WorkloadError: the name is unknown, or the file lacks a key, has one too many, or a value that cannot be.
    """
    return _read(find_preset_file(name_or_path, PRESETS_FOLDER, "image preset"))


def _read(path: Path) -> ImagePreset:
    table = read_preset_table(path, "image preset", SCHEMA_VERSION)
    allowed = [f for f in fields(ImagePreset) if f.name != "name"]
    names = [f.name for f in allowed]
    unknown = [key for key in table if key not in names]
    if unknown:
        raise WorkloadError(f"image preset {path}: unknown key {unknown[0]!r}; allowed: {', '.join(names)}")
    needed = [f.name for f in allowed if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in table]
    if missing:
        raise WorkloadError(f"image preset {path}: lacks {', '.join(missing)}")
    _check_types(table, path)
    encoders = tuple(_network(entry, "text_encoders", path) for entry in table.pop("text_encoders", ()))
    denoiser, vae = (_network(table.pop(key), key, path) for key in ("denoiser", "vae"))
    return ImagePreset(name=path.stem.lower(), denoiser=denoiser, vae=vae, text_encoders=encoders, **table)


_TABLE_TYPES: dict[str, type | tuple[type, ...]] = {
    "source": str,
    "prediction": str,
    "guidance": str,
    "sampler": str,
    "steps": int,
    "cfg_scale": (int, float),
    "image_px": int,
    "schedule": dict,
    "denoiser": dict,
    "vae": dict,
    "text_encoders": list,
}


def _check_types(table: dict[str, Any], path: Path) -> None:
    for key, value in table.items():
        if not isinstance(value, _TABLE_TYPES[key]) or isinstance(value, bool):
            raise WorkloadError(f"image preset {path}: {key} has a value of the wrong type, got {value!r}")


def _network(entry: Any, key: str, path: Path) -> NetworkConfig:
    """`class`, `config` and, for text encoders, `tokens`; lists of a configuration become tuples."""
    if not (isinstance(entry, dict) and isinstance(entry.get("config"), dict) and isinstance(entry.get("class"), str)):
        raise WorkloadError(f"image preset {path}: {key} needs class and a table config, got {entry!r}")
    if set(entry) - {"class", "config", "tokens"}:
        raise WorkloadError(f"image preset {path}: {key} takes class, config and tokens, got {', '.join(entry)}")
    config = {name: tuple(value) if isinstance(value, list) else value for name, value in entry["config"].items()}
    return NetworkConfig(class_name=entry["class"], config=config, tokens=int(entry.get("tokens", 0)))


def _check_choice(where: str, name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise WorkloadError(f"{where}: {name} must be one of {', '.join(allowed)}, got {value!r}")
