"""A tiny base model, its tokeniser and adapters, seeded and random: for tests of logic, made in a second."""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from classifier.adapters.manifest import Pooling, Probe, read_files
from classifier.adapters.store import assemble, peft_files, write_files
from classifier.base_model import locate, quiet_transformers
from classifier.interface import load
from classifier.model import head_modules, load_base
from classifier.settings import ClassifierSettings
from trainer.fitting.recipe import linear_names

SENTIMENTS = ("negative", "neutral", "positive")
MAX_LENGTH = 64

_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": len(_SPECIAL) + 256,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_ARCHITECTURES = {
    "roberta": {"max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1},
    "xlm-roberta": {"max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1},
    "bert": {"max_position_embeddings": MAX_LENGTH},
    "distilbert": {
        "max_position_embeddings": MAX_LENGTH,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
    },
    "deberta-v2": {
        "max_position_embeddings": MAX_LENGTH,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
    },
    "modernbert": {
        "max_position_embeddings": MAX_LENGTH,
        "global_attn_every_n_layers": 2,
        "local_attention": 16,
    },
    "albert": {"max_position_embeddings": MAX_LENGTH, "embedding_size": 16},
    "big_bird": {"max_position_embeddings": MAX_LENGTH, "attention_type": "original_full"},
    "convbert": {"max_position_embeddings": MAX_LENGTH, "embedding_size": 32, "conv_kernel_size": 3},
    "data2vec-text": {"max_position_embeddings": MAX_LENGTH + 2},
    "electra": {"max_position_embeddings": MAX_LENGTH, "embedding_size": 16},
    "fnet": {"max_position_embeddings": MAX_LENGTH},
    "longformer": {"max_position_embeddings": MAX_LENGTH + 2, "attention_window": 8, "sep_token_id": 2},
    "luke": {"max_position_embeddings": MAX_LENGTH + 2, "entity_vocab_size": 9, "entity_emb_size": 8},
    "mobilebert": {
        "max_position_embeddings": MAX_LENGTH, "embedding_size": 16,
        "intra_bottleneck_size": 16, "true_hidden_size": 16,
    },
    "mpnet": {"max_position_embeddings": MAX_LENGTH + 2},
    "roberta-prelayernorm": {"max_position_embeddings": MAX_LENGTH + 2},
    "xlm": {"max_position_embeddings": MAX_LENGTH, "emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    "bart": {
        "max_position_embeddings": MAX_LENGTH, "d_model": 32, "decoder_start_token_id": 2,
        "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64,
    },
    "t5": {
        "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 1,
    },
    "gpt2": {"max_position_embeddings": MAX_LENGTH},
    "llama": {"max_position_embeddings": MAX_LENGTH, "num_key_value_heads": 2, "head_dim": 8},
    "qwen2": {"max_position_embeddings": MAX_LENGTH, "num_key_value_heads": 2},
}  # fmt: skip
DECODERS = ("gpt2", "llama", "qwen2")
"""Without an id of padding, as their publishers left them; their tokenisers add nothing to a text."""
_TARGETS = {"distilbert": ["q_lin", "v_lin"], "deberta-v2": ["query_proj"], "modernbert": ["Wqkv"]}
_LIKE_BERT = ("bert", "roberta", "xlm-roberta")


def tiny_base(
    directory: Path, architecture: str = "roberta", seed: int = 0, longest_tokens: int = MAX_LENGTH
) -> Path:
    """A directory with a random base model of that architecture and a tokeniser of single bytes.

    Args:
        directory: Where it is written.
        architecture: What transformers calls it.
        seed: Of its weights.
        longest_tokens: What its tokeniser says of the longest text.
    """
    fields = {**_SIZES, **_ARCHITECTURES[architecture]}
    if architecture in DECODERS:
        fields["pad_token_id"] = None
    if architecture == "xlnet":
        del fields["num_hidden_layers"]
    config = AutoConfig.for_model(architecture, **fields)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    for parameter in model.parameters():  # far from the tiny default scale, so that errors show
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    with quiet_transformers():
        model.base_model.save_pretrained(directory)
    tokeniser = _tokeniser(adds_ends=architecture not in DECODERS)
    tokeniser.model_max_length = longest_tokens
    tokeniser.save_pretrained(directory)
    return directory


def tiny_adapter(
    base: Path,
    root: Path,
    *,
    labels: tuple[str, ...] = SENTIMENTS,
    seed: int = 1,
    task: str = "sentiment",
    temperature: float = 1.5,
    targets: Sequence[str] | None = None,
) -> Path:
    """An adapter directory for that base: random LoRA matrices and a random head."""
    model = tiny_peft_model(base, len(labels), seed, targets)
    fields = {"task": task, "labels": labels, "base_model": str(base), "temperature": temperature}
    return save_adapter(
        model, root, fields | {"base_sha256": locate(str(base)).weights_sha256}, card="# {version}\n"
    )


def save_adapter(model, root: Path, fields, *, card: str = "", dtype=None) -> Path:
    """The directory with the adapter of a peft model, named by its content."""
    return write_files(assemble(peft_files(model, fields.get("base_model"), dtype), fields, card), root)


def with_probes(base: Path, directory: Path, shift: float = 0.0) -> Path:
    """A copy of an adapter beside it that stores two of its own answers; shifted, they are not its own."""
    texts = ["Good.", "A rather long sentence about a kettle."]
    settings = ClassifierSettings(device="cpu", precision="fp32")
    manifest, files = read_files(directory)
    said = load(str(base), directory, settings).predict(texts)
    probes = [
        Probe(text=text, probabilities=tuple(value + shift for value in one.probabilities))
        for text, one in zip(texts, said, strict=True)
    ]
    fields = manifest.model_dump(exclude={"files"}) | {"probes": probes}
    return write_files(assemble(files, fields), directory.parent)


def tiny_peft_model(
    base: Path,
    num_labels: int = 3,
    seed: int = 1,
    targets: Sequence[str] | None = None,
    pooling: Pooling = "first",
):
    """A peft model over that base whose LoRA matrices are all drawn, so that leaving one out shows."""
    model = load_base(locate(str(base)), num_labels, pooling)
    kind = model.config.model_type
    usual = ["query", "value", "attention.output.dense"] if kind in _LIKE_BERT else _TARGETS.get(kind)
    targets = targets or usual or linear_names(model)[:6]
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=targets,
        modules_to_save=head_modules(model), fan_in_fan_out=kind == "gpt2",
    )  # fmt: skip
    torch.manual_seed(seed)
    with quiet_transformers():
        adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    return adapted.eval()


def _tokeniser(*, adds_ends: bool = True) -> PreTrainedTokenizerFast:
    """Bytes are tokens: any text can be encoded, and its length is known."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(_SPECIAL + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if adds_ends:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        pad_token="<pad>" if adds_ends else None, unk_token="<unk>", mask_token="<mask>",
        model_max_length=MAX_LENGTH,
    )  # fmt: skip
