"""Everything `glmserve doctor` says, in every language it speaks.

Names of options, packages and number formats stay as they are typed. So do the reasons that
devices, checkpoints and options give: they are the lines that `glmserve serve` would end with.
"""

from __future__ import annotations

from glmserve.cli.doctor.language import Message

# The machine.
MACHINE = Message("Machine", "机器")
SYSTEM = Message("system", "系统")
PROCESSOR = Message("CPU", "处理器")
CORES = Message(
    "{name}; {cores} cores to compute with, {logical} logical CPUs",
    "{name}；可用物理核 {cores} 个，逻辑 CPU {logical} 个",
)
QUOTA = Message("; the container may take {quota:g} CPUs", "；容器限额 {quota:g} 个 CPU")
INSTRUCTIONS = Message("instructions", "指令集")
NO_INSTRUCTIONS = Message("none that kernels are made for", "没有内核可以利用的指令集")
KERNELS = Message("CPU kernels", "CPU 内核")
KERNELS_USED = Message("glmserve's own, {name}", "glmserve 自带内核，{name}")
KERNELS_MISSING = Message(
    "torch's, which are slower: {reason}", "使用 torch 的内核，速度较慢：{reason}"
)
MEMORY = Message("memory", "内存")
MEMORY_SIZES = Message("{total}, {available} available", "共 {total}，可用 {available}")
MEMORY_LIMIT = Message("; the container may take {limit}", "；容器上限 {limit}")
PACKAGES = Message("packages", "软件包")
NOT_INSTALLED = Message("{name}: not installed", "{name}：未安装")
DEVICE = Message("device {name}", "设备 {name}")
SETTINGS = Message("{name} settings", "{name} 设置")
USABLE = Message("can be used: {reason}", "可用：{reason}")
NOT_USABLE = Message("cannot be used: {reason}", "不可用：{reason}")
GPU = Message("GPU {number}", "GPU {number}")
GPU_MEMORY = Message(
    "{name}, {total}, {free} free; a rank takes the GPU of its number",
    "{name}，显存 {total}，空闲 {free}；并行进程使用与其编号相同的 GPU",
)

# The checkpoint.
CHECKPOINT = Message("Checkpoint {path}", "模型 {path}")
FAMILY = Message("model", "型号")
LAYERS = Message("{family}, {layers} layers", "{family}，{layers} 层")
PARAMETERS = Message(", {count} parameters", "，参数量 {count}")
CONTEXT = Message("context", "上下文长度")
TOKENS = Message("{count:,} tokens", "{count:,} 个 token")
STORED = Message("stored as", "存储格式")
STORED_PLAIN = Message("{dtype}", "{dtype}")
STORED_UNKNOWN = Message("config.json does not say", "config.json 未注明")
STORED_BITS = Message("int{bits}, one scale for each row", "int{bits} 量化，每行一个缩放系数")
STORED_MODELSLIM = Message("by ModelSlim: {kinds}", "由 ModelSlim 量化：{kinds}")
STORED_GROUPS = Message(
    "int{bits}, one scale for every {size} columns", "int{bits} 量化，每 {size} 列一个缩放系数"
)
PREFIX = Message("prefix", "前缀")
PREFIX_LENGTH = Message("P-Tuning v2, {length} slots", "P-Tuning v2，长度 {length}")
ADAPTER = Message("adapter {name}", "适配器 {name}")
ADAPTER_LORA = Message("LoRA of rank {size}", "LoRA，秩 {size}")
ADAPTER_PREFIX = Message("prefix ({kind}) of {size} slots", "前缀（{kind}），长度 {size}")
ADAPTER_BROKEN = Message("cannot be served, see below", "无法使用，原因见下文")
WEIGHTS = Message("weights", "权重")
WEIGHTS_WHOLE = Message(
    "complete: every tensor is there; {size}, files: {files}",
    "完整：张量齐全，共 {files} 个文件，{size}",
)
WEIGHTS_BROKEN = Message("cannot be served, see below", "无法使用，原因见下文")
WEIGHTS_DUMMY = Message("none are read: --load-format dummy", "不读取权重文件：--load-format dummy")
FILES = Message("files", "文件")
FILES_TO_FETCH = Message(
    "not on this machine; {size} to fetch, files: {files}",
    "本机没有；需下载 {size}，共 {files} 个文件",
)
TOKENIZER = Message("tokenizer", "分词器")
TOKENIZER_IDS = Message("{count:,} ids", "{count:,} 个词元 ID")
TOKENIZER_SKIPPED = Message("none is read: --skip-tokenizer-init", "不读取：--skip-tokenizer-init")
TOKENIZER_NONE = Message("none that can be used", "没有可用的分词器")
CHAT_FORMAT = Message("chat format", "对话格式")
UNKNOWN_FIELDS = Message("unknown fields", "未知字段")

# Memory.
PLANS = Message(
    "Memory on {device}, {available} available, as asked and in other number formats:",
    "设备 {device} 的内存估算（可用 {available}），含当前选项和其他数值格式：",
)
WEIGHT_FORMAT = Message("weights in", "权重格式")
CACHE_FORMAT = Message("KV cache in", "KV 缓存格式")
WEIGHT_SIZE = Message("weights", "权重")
WORKSPACE_SIZE = Message("a step", "单步计算")
CACHE_SIZE = Message("KV cache", "KV 缓存")
CACHE_TOKENS = Message("tokens", "token 数")
MAX_CONTEXT = Message("context", "上下文")
USERS = Message("users at {context}", "{context} 并发")
IMPOSSIBLE = Message("cannot be had", "不可行")
AS_ASKED = Message("<- these options", "← 当前选项")
RANKS = Message("a rank of {count}", "{count} 个并行进程之一")
STAGES = Message("in {count} stages", "（{count} 个流水线阶段）")
ON_DEVICE = Message("on {device}", "在 {device} 上")
USERS_EXPLAINED = Message(
    "users at 2k: requests of 2048 tokens, prompt and answer together, that run at once",
    "“2k 并发”指同时运行的、提示与回答合计 2048 个 token 的请求数。",
)
NO_PLAN = Message("This device does not say what a model takes.", "该设备不提供内存估算。")

# What comes of it.
CAN_SERVE = Message("It can be served:", "可以提供服务：")
CANNOT_SERVE = Message("It cannot be served:", "无法提供服务：")
CHANGES = Message("What to change:", "建议的修改：")
FIX = Message("it works {changes} (context {tokens:,})", "{changes} 即可运行（上下文 {tokens:,}）")
LONGER_CONTEXT = Message(
    "memory cuts the context; {tokens:,} tokens {changes}",
    "内存不足，上下文被截短；{changes} 可达 {tokens:,} 个 token",
)
MORE_USERS = Message(
    "for more users or longer texts: {tokens:,} tokens of KV cache {changes}",
    "若要支持更多用户或更长文本：{changes}，KV 缓存可达 {tokens:,} 个 token",
)
COMPILE_KERNELS = Message(
    "for speed: install g++ or clang++, then compile glmserve's own CPU kernels in its folder",
    "若要提速：先安装 g++ 或 clang++，再到 glmserve 目录编译自带的 CPU 内核",
)
WITH = Message("with {option}", "使用 {option}")
WITHOUT = Message("without {option}", "去掉 {option}")
AND = Message(" and ", " 并")
