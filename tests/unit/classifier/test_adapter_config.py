"""What an adapter's configuration may ask for, before anything of it is matched or allocated."""

import re

import pytest

from classifier.adapters.peft_config import check_config
from reviews.errors import AdapterError

PLAIN = {"peft_type": "LORA", "task_type": "SEQ_CLS", "target_modules": ["query", "value"]}
NAME = "deberta.encoder.layer.11.attention.self.query_proj"

USUAL = [
    "all-linear",
    "query|value",
    r".*\.(q_proj|k_proj|v_proj)",
    r"^.*(q_proj|v_proj)$",
    r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",
    r"model\.layers\.\d+\.self_attn\.(?:q|k|v|o)_proj",
    r"model\.layers\.[0-9]+\.(self_attn\.(q|v)_proj|mlp\.(up|down)_proj)",
    r"(.*\.)?(pooler|classifier|pre_classifier|head)(\..*)?",
    r".*\.layer\.1.?\.attention.self.query",
]
# Each keeps `re.fullmatch` busy for longer than anybody waits, or is none of peft's usual forms.
ENDLESS = [
    r"(([a-z0-9._]+)+)+!",
    r"(.*)*x",
    r"(.+)+x",
    r"(a|a)*x",
    r"(.*|.+)+",
    ".*" * 12 + "x",
    ".?" * 40 + "x",
    "(.|.)" * 30 + "x",
    "".join(f"({c}|{c})" for c in NAME) + "x",
    "(?:.*a|.*b|.*c)" * 8,
    r"(.*)\1",
    r"(?=.*a)(?=.*b).*",
    r"(?!.*head).*query",
    r"[a-z]+query",
    r".{1,60}.{1,60}.{1,60}.{1,60}.{1,60}x",
    "(" * 400 + ")" * 400,
    "x" * 2_000,
    "(query",
    "query)",
    "*query",
    "quéry\x00",
]


@pytest.mark.parametrize("setting", ["target_modules", "exclude_modules", "feedforward_modules"])
@pytest.mark.parametrize("pattern", USUAL)
def test_a_pattern_of_peft_s_usual_forms_is_taken(setting, pattern):
    check_config(PLAIN | {setting: pattern}, "adapter_config.json")
    re.compile(pattern)


@pytest.mark.parametrize("setting", ["target_modules", "exclude_modules", "feedforward_modules"])
@pytest.mark.parametrize("pattern", ENDLESS)
def test_a_pattern_that_could_be_matched_for_ever_is_refused_unmatched(setting, pattern):
    with pytest.raises(AdapterError, match=rf"adapter_config.json: {setting} is the pattern .*refused"):
        check_config(PLAIN | {setting: pattern}, "adapter_config.json")


@pytest.mark.parametrize(
    "setting", ["modules_to_save", "layers_pattern", "target_parameters", "target_modules"]
)
@pytest.mark.parametrize("name", ["(([a-z0-9._]+)+)+!", ".*", "", 7, None, "a..b"])
def test_what_has_to_be_a_module_s_name_is_one(setting, name):
    with pytest.raises(AdapterError, match=rf"{setting} holds .* not a module's name"):
        check_config(PLAIN | {setting: [name]}, "adapter_config.json")


@pytest.mark.parametrize("setting", ["rank_pattern", "alpha_pattern"])
def test_the_keys_of_peft_s_pattern_tables_are_patterns_too(setting):
    check_config(PLAIN | {setting: {r"layer\.\d\.attention": 8, "query": 4}}, "x")
    with pytest.raises(AdapterError, match=rf"{setting} is the pattern"):
        check_config(PLAIN | {setting: {r"(([a-z0-9._]+)+)+!": 8}}, "x")
    with pytest.raises(AdapterError, match="too many patterns"):
        check_config(PLAIN | {setting: {f".*.*{number}": 8 for number in range(200)}}, "x")
    with pytest.raises(AdapterError, match="must be an object"):
        check_config(PLAIN | {setting: ["query"]}, "x")


def test_the_slowest_pattern_that_is_taken_ends():
    slowest = ".*e.*e.*x"
    check_config(PLAIN | {"target_modules": slowest}, "x")
    assert not any(re.fullmatch(slowest, f"{NAME}.{number}") for number in range(200))


@pytest.mark.parametrize("task_type", ["CAUSAL_LM", "TOKEN_CLS", "FEATURE_EXTRACTION", 3])
def test_an_adapter_for_another_kind_of_task_is_refused(task_type):
    with pytest.raises(AdapterError, match=f"task type {task_type}.*SEQ_CLS"):
        check_config(PLAIN | {"task_type": task_type}, "x")
    check_config(PLAIN | {"task_type": None}, "x")


def test_an_adapter_that_repeats_the_layers_of_its_base_is_refused():
    with pytest.raises(AdapterError, match="layer_replication"):
        check_config(PLAIN | {"layer_replication": [[0, 1_000_000]]}, "x")
