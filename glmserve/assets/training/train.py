"""Make glm-tiny from nothing: tokenizer, weights and config, in the ChatGLM2 layout.

    python glmserve/assets/training/train.py --output DIR

Needs glmserve itself, which writes the prompts that offer functions, and transformers (training
only; the server does not use it). transformers' in-tree GLM class computes the same function as
ChatGLM2, so it is trained here and its tensors are renamed to the official checkpoint names when
saved.
"""

from __future__ import annotations

import argparse
import difflib
import io
import itertools
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import sentencepiece
import torch
from corpus import (
    LANGUAGES,
    Conversation,
    Corpus,
    held_out_turns,
    load_corpus,
)
from first_lesson import first_lesson
from safetensors.torch import load_file, save_file
from tool_talk import Exam, ToolTalk, canonical_offer, exams, load_tool_talk, mixed_conversations
from transformers import GlmConfig, GlmForCausalLM

from glmserve.text import CHAT_FORMATS, ChatMessage, load_tokenizer
from glmserve.text.tools import ToolCall, tagged

IGNORE = -100
SPECIAL_TOKENS = (
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)
PIECES = 2672
PADDED_VOCAB = 2688
EOS, PAD = 2, 0
PARAGRAPH = "\n\n"
SEED = 20240601
NEAR = 0.9
POOL = 2000
WARMUP = 100


@dataclass(frozen=True)
class Shape:
    """Size of the network; chosen so that float16 weights stay below seven megabytes."""

    hidden: int = 192
    layers: int = 6
    heads: int = 6
    head_dim: int = 32
    groups: int = 2
    ffn: int = 512
    positions: int = 2048
    epsilon: float = 1e-5


class Tokenizer:
    """The sentencepiece model plus ChatGLM2's special ids behind its last piece."""

    def __init__(self, model: bytes) -> None:
        self.start = sentencepiece.SentencePieceProcessor(model_proto=model)
        size = self.start.get_piece_size()
        self.special = {name: size + i for i, name in enumerate(SPECIAL_TOKENS)}

    def prefix(self) -> list[int]:
        return [self.special["[gMASK]"], self.special["sop"]]

    def prompt(self, text: str) -> list[int]:
        """What a server feeds for a prompt text."""
        return self.prefix() + list(self.start.encode(text))

    def middle(self, text: str) -> list[int]:
        """Text inside a sequence, so without the blank that sentencepiece starts a text with.

        The paragraph break is a piece of its own that merges with nothing: what follows it is
        encoded as it would be behind any prompt.
        """
        return list(self.start.encode(PARAGRAPH + text)[2:])

    def decode(self, ids: list[int]) -> str:
        return str(self.start.decode([i for i in ids if i < self.start.get_piece_size()]))


def round_text(number: int, question: str) -> str:
    """ChatGLM2's prompt format for one round, up to where the answer begins."""
    return f"[Round {number}]\n\n问：{question}\n\n答："


def train_tokenizer(corpus: Corpus, talk: ToolTalk, seed: int, sentences: int = 40_000) -> bytes:
    """Sentencepiece BPE in ChatGLM2's style, fitted to this corpus and to frequent characters."""
    stream = itertools.islice(mixed_conversations(corpus, talk, seed), sentences)
    texts = itertools.chain.from_iterable(_tokenizer_lines(chat) for chat in stream)
    required = {c for lang in LANGUAGES for c in _all_characters(corpus, talk, lang)}
    characters = "".join(sorted(required))
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sorted(set(texts))),
        model_writer=buffer,
        model_type="bpe",
        vocab_size=PIECES,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        byte_fallback=True,
        split_digits=True,
        character_coverage=1.0,
        required_chars=characters,
        user_defined_symbols=[PARAGRAPH, "问：", "答："],
        unk_id=PAD,
        bos_id=1,
        eos_id=EOS,
        pad_id=-1,
        unk_piece="<unk>",
        num_threads=1,
        minloglevel=2,
    )
    return buffer.getvalue()


def _tokenizer_lines(chat: Conversation) -> Iterator[str]:
    """Texts as they stand in prompts: whole words must also exist right behind `答：`."""
    if chat.system:
        yield chat.system
    for number, turn in enumerate(chat.turns, start=1):
        if turn.intent != "gibberish":
            yield round_text(number, turn.question) + turn.answer


def _all_characters(corpus: Corpus, talk: ToolTalk, language: str) -> Iterator[str]:
    """Characters that must be pieces: the words' own and printable ASCII, never bytes."""
    words = corpus.words[language]
    texts = (*words.topics, *words.loose, *words.names, words.characters, *talk.texts(language))
    yield from (c for text in texts for c in text if c != " ")
    yield from (chr(code) for code in range(33, 127))


@dataclass(frozen=True)
class Example:
    """One conversation as ids, with the answer ids (and eos) as labels at the right places."""

    ids: list[int]
    labels: list[int]


def encode_conversation(chat: Conversation, tokenizer: Tokenizer) -> Example:
    """Ids as a server would feed them; labels[i] is what should follow ids[i].

    The last token of every answer is taught to be followed by eos, although in the history
    the next round follows there: that is what the model has to do when it answered.
    """
    ids: list[int] = []
    labels: list[int] = []
    for number, turn in enumerate(chat.turns, start=1):
        text = round_text(number, turn.question)
        if number == 1:
            lead = tokenizer.prompt(f"{chat.system}\n\n{text}" if chat.system else text)
        else:
            lead = tokenizer.middle(PARAGRAPH + text)
        answer = tokenizer.middle(turn.answer)
        ids += lead + answer
        labels += [IGNORE] * (len(lead) - 1) + answer + [EOS]
    return Example(ids, labels)


def batches(
    chats: Iterator[Conversation], tokenizer: Tokenizer, seed: int, batch_tokens: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of similar length, each about `batch_tokens` large."""
    rng = random.Random(seed)
    while True:
        examples = [encode_conversation(chat, tokenizer) for chat in itertools.islice(chats, POOL)]
        examples.sort(key=lambda example: len(example.ids))
        groups = list(_group(examples, batch_tokens))
        rng.shuffle(groups)
        yield from (_pad(group) for group in groups)


def _group(examples: list[Example], batch_tokens: int) -> Iterator[list[Example]]:
    group: list[Example] = []
    for example in examples:
        if group and len(example.ids) * (len(group) + 1) > batch_tokens:
            yield group
            group = []
        group.append(example)
    yield group


def _pad(group: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right padding: with causal attention no real token ever sees it."""
    width = max(len(example.ids) for example in group)
    ids = torch.full((len(group), width), PAD)
    labels = torch.full((len(group), width), IGNORE)
    for row, example in enumerate(group):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        labels[row, : len(example.labels)] = torch.tensor(example.labels)
    return ids, labels


def build_model(shape: Shape) -> GlmForCausalLM:
    """transformers' GLM with ChatGLM2's details: qkv bias, half interleaved rotary."""
    config = GlmConfig(
        vocab_size=PADDED_VOCAB,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.positions,
        rms_norm_eps=shape.epsilon,
        initializer_range=0.03,
        tie_word_embeddings=False,
        attention_bias=True,
        partial_rotary_factor=0.5,
        pad_token_id=PAD,
        eos_token_id=EOS,
        use_cache=False,
    )
    return GlmForCausalLM(config)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to nothing."""
    if step < WARMUP:
        return peak * (step + 1) / WARMUP
    return peak * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP)))


def answer_loss(model: GlmForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the answer tokens; other rows never reach the output layer."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    wanted = labels != IGNORE
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]), labels[wanted])


@dataclass(frozen=True)
class Phase:
    """One part of the training, with its own learning rate curve and optimizer state."""

    name: str
    steps: int
    peak: float
    seed: int
    """Of the order of the batches."""
    chats: Iterator[Conversation]


def train(model: GlmForCausalLM, tokenizer: Tokenizer, phase: Phase, batch_tokens: int) -> float:
    """Plain AdamW; returns the mean loss of the last hundred steps."""
    decay = [p for p in model.parameters() if p.ndim > 1]
    keep = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": keep, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
        fused=True,
    )
    stream = batches(phase.chats, tokenizer, phase.seed, batch_tokens)
    begin, seen = time.monotonic(), 0
    recent: list[float] = []
    model.train()
    for step, (ids, labels) in enumerate(itertools.islice(stream, phase.steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, phase.steps, phase.peak)
        loss = answer_loss(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += ids.numel()
        recent = [*recent[-99:], loss.item()]
        if (step + 1) % 100 == 0:
            spent = time.monotonic() - begin
            speed = f"{seen / spent:.0f} tokens/s  {spent / 60:.1f} min"
            print(
                f"{phase.name} {step + 1}/{phase.steps}  loss {fmean(recent):.4f}  {speed}",
                flush=True,
            )
    return fmean(recent)


def _layer_names(index: int) -> dict[str, str]:
    """Official name -> transformers name of what is stored unchanged, for one layer."""
    ours, theirs = f"transformer.encoder.layers.{index}", f"model.layers.{index}"
    return {
        f"{ours}.input_layernorm.weight": f"{theirs}.input_layernorm.weight",
        f"{ours}.post_attention_layernorm.weight": f"{theirs}.post_attention_layernorm.weight",
        f"{ours}.self_attention.dense.weight": f"{theirs}.self_attn.o_proj.weight",
        f"{ours}.mlp.dense_h_to_4h.weight": f"{theirs}.mlp.gate_up_proj.weight",
        f"{ours}.mlp.dense_4h_to_h.weight": f"{theirs}.mlp.down_proj.weight",
    }


def _all_names(layers: int) -> dict[str, str]:
    names = {
        "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
        "transformer.encoder.final_layernorm.weight": "model.norm.weight",
        "transformer.output_layer.weight": "lm_head.weight",
    }
    for index in range(layers):
        names |= _layer_names(index)
    return names


def to_official(state: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Rename to ChatGLM2's tensors; query, key and value rows become one matrix."""
    tensors = {ours: state[theirs] for ours, theirs in _all_names(layers).items()}
    for index, kind in itertools.product(range(layers), ("weight", "bias")):
        parts = [state[f"model.layers.{index}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
        name = f"transformer.encoder.layers.{index}.self_attention.query_key_value.{kind}"
        tensors[name] = torch.cat(parts)
    return {name: tensor.to(torch.float16).contiguous() for name, tensor in tensors.items()}


def from_official(tensors: dict[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
    """The inverse of `to_official`, in float32: evaluation runs on what was really stored."""
    state = {theirs: tensors[ours] for ours, theirs in _all_names(shape.layers).items()}
    sizes = [shape.heads * shape.head_dim] + 2 * [shape.groups * shape.head_dim]
    for index, kind in itertools.product(range(shape.layers), ("weight", "bias")):
        name = f"transformer.encoder.layers.{index}.self_attention.query_key_value.{kind}"
        for part, rows in zip("qkv", tensors[name].split(sizes), strict=True):
            state[f"model.layers.{index}.self_attn.{part}_proj.{kind}"] = rows
    return {name: tensor.float() for name, tensor in state.items()}


def model_config(shape: Shape) -> dict[str, object]:
    """config.json with THUDM's keys."""
    return {
        "_name_or_path": "glmserve/glm-tiny",
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_query_key_layer_scaling": True,
        "apply_residual_connection_post_layernorm": False,
        "attention_dropout": 0.0,
        "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True,
        "ffn_hidden_size": shape.ffn,
        "fp32_residual_connection": False,
        "hidden_dropout": 0.0,
        "hidden_size": shape.hidden,
        "kv_channels": shape.head_dim,
        "layernorm_epsilon": shape.epsilon,
        "multi_query_attention": True,
        "multi_query_group_num": shape.groups,
        "num_attention_heads": shape.heads,
        "num_layers": shape.layers,
        "original_rope": True,
        "padded_vocab_size": PADDED_VOCAB,
        "post_layer_norm": True,
        "rmsnorm": True,
        "seq_length": shape.positions,
        "use_cache": True,
        "torch_dtype": "float16",
        "tie_word_embeddings": False,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }


def tokenizer_config() -> dict[str, object]:
    """tokenizer_config.json like THUDM's, plus our own key naming the prompt format."""
    return {
        "name_or_path": "glmserve/glm-tiny",
        "remove_space": False,
        "do_lower_case": False,
        "tokenizer_class": "ChatGLMTokenizer",
        "chat_format": "chatglm2",
    }


def save(output: Path, model: GlmForCausalLM, tokenizer_model: bytes, shape: Shape) -> None:
    """Write the four files of the checkpoint."""
    output.mkdir(parents=True, exist_ok=True)
    tensors = to_official(model.state_dict(), shape.layers)
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    (output / "model.safetensors").chmod(0o644)  # safetensors makes it private to its owner
    (output / "tokenizer.model").write_bytes(tokenizer_model)
    for name, content in (
        ("config.json", model_config(shape)),
        ("tokenizer_config.json", tokenizer_config()),
    ):
        (output / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load(folder: Path, shape: Shape) -> tuple[GlmForCausalLM, Tokenizer]:
    """Read a saved checkpoint back for evaluation."""
    model = build_model(shape)
    model.load_state_dict(from_official(load_file(folder / "model.safetensors"), shape))
    return model.eval(), Tokenizer((folder / "tokenizer.model").read_bytes())


@torch.no_grad()
def answer(
    model: GlmForCausalLM, tokenizer: Tokenizer, prompt_ids: list[int], limit: int = 200
) -> str:
    """Greedy answer to a prompt."""
    ids = torch.tensor([prompt_ids])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        use_cache=True,
        max_new_tokens=limit,
        pad_token_id=PAD,
    )
    return tokenizer.decode(output[0, ids.shape[1] :].tolist()).strip()


@dataclass
class Tally:
    """How often the answer was right, for one kind of question."""

    asked: int = 0
    exact: int = 0
    near: int = 0


class Examiner:
    """Asks a stored checkpoint, with prompts of the server's own making, and counts."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._model, self._tokenizer = load(folder, shape)
        self._chat_format = CHAT_FORMATS["chatglm2"](load_tokenizer(folder))
        self._tallies: dict[str, Tally] = {}

    def ask(
        self, kind: str, right: Sequence[str], *messages: ChatMessage, tools: bool = False
    ) -> None:
        offered = [canonical_offer().tool] if tools else []
        prompt_ids = self._chat_format.render(messages, offered)
        said = answer(self._model, self._tokenizer, prompt_ids)
        likeness = max(difflib.SequenceMatcher(None, said, text).ratio() for text in right)
        tally = self._tallies.setdefault(kind, Tally())
        tally.asked += 1
        tally.exact += said in right
        tally.near += likeness > NEAR
        if said not in right and (likeness <= NEAR or tools):
            print(f"  miss ({kind}): {messages[-1].content!r} -> {said!r}")

    def report(self) -> None:
        for kind, tally in self._tallies.items():
            print(f"held-out {kind}: {tally.exact} exact, {tally.near} near-exact of {tally.asked}")


def evaluate(folder: Path, shape: Shape, corpus: Corpus, talk: ToolTalk) -> None:
    """Ask every held-out phrasing and print how many answers are (nearly) the right one."""
    examiner = Examiner(folder, shape)
    for index, (turn, right) in enumerate(held_out_turns(corpus)):
        kind = "unknown" if turn.intent == "unknown" else "known"
        question = ChatMessage("user", turn.question)
        examiner.ask(kind, right, question)
        if index % 4 == 0 and "weather" not in turn.question and "天气" not in turn.question:
            examiner.ask(f"{kind}, with a function on offer", right, question, tools=True)
    for exam in exams(talk):
        examine_tools(examiner, exam, corpus)
    examiner.report()


def examine_tools(examiner: Examiner, exam: Exam, corpus: Corpus) -> None:
    """The call, what is said of its result, and that nothing is called that is not offered."""
    offer = canonical_offer()
    question = ChatMessage("user", exam.question)
    call = ToolCall("call", offer.tool.name, offer.arguments(exam.place))
    called = ChatMessage("assistant", "", (call,))
    result = ChatMessage("tool", exam.result, tool_call_id=call.id)
    unknown = corpus.words[exam.language].unknown_answer
    examiner.ask("calls", [tagged.call_text(call)], question, tools=True)
    examiner.ask("results", [exam.answer], question, called, result, tools=True)
    examiner.ask("calls without a function", [unknown], question)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--copy-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--polish-steps", type=int, default=900)
    parser.add_argument("--batch-tokens", type=int, default=1536)
    parser.add_argument("--copy-lr", type=float, default=1e-3)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def phases(args: argparse.Namespace, corpus: Corpus, talk: ToolTalk) -> Iterator[Phase]:
    """To copy; to talk; to answer the most frequent questions, word for word, without fail."""
    first, second, third = (args.seed + number for number in (1, 2, 3))
    yield Phase("copy", args.copy_steps, args.copy_lr, first, first_lesson(corpus, talk, first))
    chats = mixed_conversations(corpus, talk, second)
    yield Phase("learn", args.steps, args.lr, second, chats)
    chats = mixed_conversations(corpus, talk, third, often=0.45)
    yield Phase("polish", args.polish_steps, args.lr / 4, third, chats)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    begin = time.monotonic()
    shape, corpus, talk = Shape(), load_corpus(), load_tool_talk()
    tokenizer_model = train_tokenizer(corpus, talk, args.seed)
    tokenizer = Tokenizer(tokenizer_model)
    model = build_model(shape)
    count = sum(p.numel() for p in model.parameters())
    print(f"{count:,} parameters, {tokenizer.start.get_piece_size()} pieces", flush=True)
    for phase in phases(args, corpus, talk):
        loss = train(model, tokenizer, phase, args.batch_tokens)
        save(args.output, model, tokenizer_model, shape)
        print(f"{phase.name}: loss {loss:.4f}, {(time.monotonic() - begin) / 60:.1f} min so far")
        # Go on from what was stored: an interrupted run has the same weights as a whole one.
        model, tokenizer = load(args.output, shape)
    evaluate(args.output, shape, corpus, talk)


if __name__ == "__main__":
    main()
