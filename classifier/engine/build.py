"""Builds the engine of an adapter: packed where that is exact, else general."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import structlog
import torch
from torch import Tensor

from classifier.adapters.manifest import AdapterManifest, Pooling, read_config
from classifier.base_model import BaseModel
from classifier.devices import choose_dtype, describe_dtype, describe_processor
from classifier.engine import Engine
from classifier.engine.choice import FormatChoice, Measure
from classifier.engine.encoder import Encoder, Unsupported, check_supported, take_apart
from classifier.engine.general import GeneralEngine, find_padding
from classifier.engine.lower_states import LowerStates
from classifier.engine.packed import PackedEngine
from classifier.engine.pooling import architecture_of, pooling_of, read_mean
from classifier.model import attach, load_base, merge
from classifier.number_formats import FormatMemory
from classifier.settings import ClassifierSettings
from classifier.tokenise import Tokeniser
from classifier.verification import PROBE_TEXTS, SHORT_PROBE_TEXTS, EngineCheck, can_verify, random_rows
from reviews.errors import ModelError

log = structlog.get_logger()

_EXACT = "it gives the model's own answers in less time"
_HEAD_MODULES = {"classifier", "pooler", "score"}


class Built(NamedTuple):
    """An engine, and why it is this one.

    Attributes:
        engine: To serve.
        why: Why this engine.
        number_format: Of its matrices.
        why_format: Why this format.
    """

    engine: Engine
    why: str
    number_format: str
    why_format: str


class EngineBuilder:
    """Chooses and makes engines; keeps the shared base once an adapter has been built beside it.

    Args:
        base: Whose files are on this machine.
        tokeniser: Of that base.
        settings: Precision, engine, mode and budget; threads are set for the process.
        device: Where engines run.
        measure: Times number formats; None: :func:`classifier.engine.choice.measure_formats`.

    Raises:
        ModelError: If the settings ask for a number format that the device does not compute.
    """

    def __init__(
        self,
        base: BaseModel,
        tokeniser: Tokeniser,
        settings: ClassifierSettings,
        device: torch.device,
        measure: Measure | None = None,
    ) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._base = base
        self._tokeniser = tokeniser
        self._settings = settings
        self._device = device
        self._dtype = choose_dtype(settings.precision, device)
        self._choice = self._make_choice(measure)
        self._shared: dict[Pooling, _SharedBase] = {}
        self._lower_states = LowerStates()
        self._has_said: set[str] = set()

    def _make_choice(self, measure: Measure | None) -> FormatChoice | None:
        kept_in = self._settings.number_formats
        if kept_in is None or self._device.type != "cpu":
            return None
        memory = FormatMemory(kept_in, describe_processor())
        return FormatChoice(memory, self._tokeniser, self._settings.batch_tokens, measure)

    def build(self, directory: Path, manifest: AdapterManifest) -> Built:
        """The engine of an adapter, and why it is this one.

        Raises:
            AdapterError: If the adapter does not fit the base.
            ModelError: If the base cannot be loaded, or cannot run on the engine that the settings name.
        """
        if self._settings.engine == "general":
            return self._general_built(directory, manifest, "classifier.engine asks for it")
        try:
            if self._settings.adapters == "shared":
                return self._built(
                    self._beside_shared(directory, manifest), f"{_EXACT}, beside the shared base"
                )
        except Unsupported as why:
            self._say_once("adapter_cannot_be_shared", why)
        try:
            return self._packed(directory, manifest)
        except Unsupported as why:
            if self._settings.engine == "packed":
                raise ModelError(
                    f"The packed engine cannot run {self._base.name}: {why}; set engine=auto."
                ) from why
            self._say_once("packed_engine_not_used", why)
            return self._general_built(directory, manifest, f"the packed one cannot be used: {why}")

    def build_exact(self, directory: Path, manifest: AdapterManifest) -> Engine:
        """The engine that answers in fp32 what another engine had no finite answer to."""
        return self._general(directory, manifest, torch.float32)

    def _load_base(self, manifest: AdapterManifest) -> Any:
        return load_base(self._base, len(manifest.labels), manifest.pooling)

    def _packed(self, directory: Path, manifest: AdapterManifest) -> Built:
        model = self._load_base(manifest)
        check_supported(model)
        model = merge(model, directory, manifest)
        if self._settings.precision == "int8":
            return self._in_int8(model, directory, manifest)
        if self._settings.precision == "auto" and self._choice is not None:
            return self._chosen(self._choice, model, directory, manifest)
        return self._built(self._checked(take_apart(model, self._dtype, self._device), model), _EXACT)

    def _in_int8(self, model: Any, directory: Path, manifest: AdapterManifest) -> Built:
        choice = self._choice or FormatChoice(
            FormatMemory(None, ""), self._tokeniser, self._settings.batch_tokens
        )
        found = choice.int8(model, directory, manifest)
        said = f"; {found.agreement.describe()}" if found.agreement is not None else ""
        self._checked(found.encoder, model)
        engine = found.engine(self._settings.batch_tokens)
        return Built(engine, _EXACT, "int8", f"classifier.precision asks for it{said}")

    def _chosen(self, choice: FormatChoice, model: Any, directory: Path, manifest: AdapterManifest) -> Built:
        decision, found = choice.decide(model, directory, manifest)
        engine: Engine
        if found is None:
            dtype = torch.bfloat16 if decision.number_format == "bf16" else torch.float32
            engine = self._checked(take_apart(model, dtype, self._device), model)
        else:
            self._checked(found.encoder, model)
            engine = found.engine(self._settings.batch_tokens)
        return Built(engine, _EXACT, decision.number_format, decision.reason)

    def _built(self, engine: Engine, why: str) -> Built:
        return Built(engine, why, *describe_dtype(self._settings.precision, self._device))

    def _general_built(self, directory: Path, manifest: AdapterManifest, why: str) -> Built:
        if self._settings.precision == "int8":
            raise ModelError(f"Only the packed engine computes in int8, and {why}; use precision=auto.")
        return self._built(self._general(directory, manifest, self._dtype), why)

    def _general(self, directory: Path, manifest: AdapterManifest, dtype: torch.dtype) -> Engine:
        model = merge(self._load_base(manifest), directory, manifest)
        padding = find_padding(model, self._tokeniser.encode(SHORT_PROBE_TEXTS).rows())
        return GeneralEngine(model.to(device=self._device, dtype=dtype), self._settings.batch_tokens, padding)

    def _beside_shared(self, directory: Path, manifest: AdapterManifest) -> Engine:
        base = self._shared.get(manifest.pooling)
        # Without probes of its own, an engine can only be checked against the whole model.
        if base is not None and _has_head(directory) and can_verify(manifest, self._tokeniser):
            return self._next_shared(base, directory, manifest)
        return self._first_shared(directory, manifest)

    def _first_shared(self, directory: Path, manifest: AdapterManifest) -> Engine:
        """The engine of an adapter beside the base, which is loaded for it and checked with it."""
        model = self._load_base(manifest)
        check_supported(model)
        head = {name: value.clone() for name, value in model.state_dict().items() if _is_of_head(name)}
        adapted = attach(model, directory, manifest)
        _check_shareable(adapted)
        # A base for heads that read otherwise has all layers but the last one in common.
        known = [self._shared.get(manifest.pooling), *self._shared.values()]
        base = next((one.encoder for one in known if one is not None), None)
        encoder = take_apart(adapted.base_model.model, self._dtype, self._device, base)
        engine = self._checked(encoder, adapted)
        self._shared.setdefault(manifest.pooling, _SharedBase(engine.encoder, head, model))
        engine.share_lower_layers(self._lower_states)
        return engine

    def _next_shared(self, base: "_SharedBase", directory: Path, manifest: AdapterManifest) -> Engine:
        """The engine of one more adapter on a base in memory; its own probes are its check."""
        adapted = attach(base.hollow_model(len(manifest.labels)), directory, manifest)
        _check_shareable(adapted)
        encoder = take_apart(adapted.base_model.model, self._dtype, self._device, base.encoder)
        encoder = dataclasses.replace(encoder, by_products=base.encoder.by_products)
        engine = PackedEngine(encoder, self._settings.batch_tokens)
        engine.share_lower_layers(self._lower_states)
        return engine

    def _checked(self, encoder: Encoder, model: Any) -> PackedEngine:
        """The packed engine, once it has given the answers of the model that it was made of.

        Raises:
            Unsupported: If it has not.
        """
        check = self._check_against(model, exact=encoder.attention_dtype.itemsize == 4)
        engine = PackedEngine(encoder, self._settings.batch_tokens)
        if not check.passes(engine):
            raise Unsupported("its answers differ from the general engine's")
        if self._device.type == "cpu" and encoder.dtype == torch.bfloat16:
            faster = PackedEngine(dataclasses.replace(encoder, by_products=True), self._settings.batch_tokens)
            if check.no_worse(faster, engine):
                return faster
        return engine

    def _check_against(self, model: Any, *, exact: bool) -> EngineCheck:
        """Real texts and random rows, with the answers of a model in fp32 on the CPU."""
        rows = [*self._tokeniser.encode(PROBE_TEXTS).rows(), *random_rows(model.config)]
        with torch.inference_mode():
            logits = [model(input_ids=torch.from_numpy(row)[None].long()).logits for row in rows]
        return EngineCheck(rows, torch.cat(logits).numpy(), exact=exact)

    def _say_once(self, event: str, why: Exception) -> None:
        if event not in self._has_said:
            self._has_said.add(event)
            log.warning(event, base_model=self._base.name, reason=str(why))


class _SharedBase:
    """The base's layers in the form that the engine runs, and what the next adapter needs to be attached.

    peft attaches an adapter to a model, but reads nothing of the model's layers except their shapes. So the
    next adapter is attached to a model without layer weights, and the base is not loaded again.

    Args:
        encoder: Made of the base and its first adapter; only the base's parts are kept.
        head: The base's parameters outside its embeddings and layers, by name, for example BERT's pooler.
        model: The base; its class, configuration and ``missing_weights`` are kept, its weights are not.
    """

    def __init__(self, encoder: Encoder, head: dict[str, Tensor], model: Any) -> None:
        # The first adapter's own matrices are released with its classifier.
        self.encoder = dataclasses.replace(encoder, layers=tuple(map(_base_layer, encoder.layers)))
        self._head = head
        self._config, self._class, self._pooling = model.config, architecture_of(model), pooling_of(model)
        self._missing_weights = model.missing_weights

    def hollow_model(self, num_labels: int) -> Any:
        """A model with the base's shapes and head, whose embeddings and layers take no memory.

        Args:
            num_labels: How many classes the adapter has, which has to bring a head of that size.
        """
        config = type(self._config).from_dict({**self._config.to_dict(), "num_labels": num_labels})
        with torch.device("meta"):
            model = self._class(config)
            model.missing_weights = self._missing_weights
            if self._pooling == "mean":
                read_mean(model)
        for name, parameter in model.named_parameters():
            _replace(model, name, self._content(name, parameter))
        for name, buffer in model.named_buffers():
            _replace(model, name, torch.zeros((), dtype=buffer.dtype).expand(buffer.shape))
        return model.eval()

    def _content(self, name: str, parameter: Tensor) -> torch.nn.Parameter:
        """The base's own value; zeros for a head of another size; a shape alone for a layer."""
        kept = self._head.get(name)
        if kept is not None and kept.shape == parameter.shape:
            return torch.nn.Parameter(kept.clone(), requires_grad=False)
        if _is_of_head(name):
            return torch.nn.Parameter(torch.zeros(parameter.shape), requires_grad=False)
        return torch.nn.Parameter(torch.zeros(()).expand(parameter.shape), requires_grad=False)


def _check_shareable(adapted: Any) -> None:
    """Refuse an adapter that changes more than low-rank updates and its own head.

    Args:
        adapted: A peft model with one adapter.

    Raises:
        Unsupported: Saying what it changes.
    """
    (config,) = adapted.peft_config.values()
    kind = getattr(config.peft_type, "value", config.peft_type)
    if kind != "LORA":
        raise Unsupported(f"{kind} adapters are merged, not shared")
    if config.bias != "none":
        raise Unsupported("the adapter changes the base's biases")
    if config.use_dora or getattr(config, "lora_bias", False):
        raise Unsupported("the adapter is more than plain LoRA")
    if getattr(config, "trainable_token_indices", None) or getattr(config, "layer_replication", None):
        raise Unsupported("the adapter changes the base's embeddings or layers")
    outside = [
        name
        for name, module in adapted.named_modules()
        if hasattr(module, "lora_A") and ".encoder.layer." not in name
    ]
    if outside:
        raise Unsupported(f"the adapter changes {outside[0]}, which is outside the base's layers")
    others = set(config.modules_to_save or ()) - _HEAD_MODULES
    if others:
        raise Unsupported(f"the adapter replaces {', '.join(sorted(others))} of the base")


def _is_of_head(name: str) -> bool:
    """Whether a parameter of a BERT or RoBERTa classifier is outside the embeddings and the layers."""
    return ".embeddings." not in name and ".encoder." not in name


def _has_head(directory: Path) -> bool:
    """Whether an adapter can be attached to shapes alone: it has a head, and reads no weight of the base."""
    config = read_config(directory)
    drawn = config.get("init_lora_weights", True)
    return "classifier" in (config.get("modules_to_save") or ()) and drawn in {True, False, "gaussian"}


def _replace(model: Any, name: str, value: Tensor) -> None:
    path, _, last = name.rpartition(".")
    owner = model.get_submodule(path)
    if isinstance(value, torch.nn.Parameter):
        setattr(owner, last, value)
    else:
        owner._buffers[last] = value  # noqa: SLF001  setattr would refuse to change a buffer's kind


def _base_layer(layer: Any) -> Any:
    """A layer without one adapter's updates."""
    parts = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    return type(layer)(**{name: getattr(part, "shared", part) for name, part in parts.items()})
