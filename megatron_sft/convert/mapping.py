"""Which Hugging Face tensors make up which Megatron tensor, as one declarative table per architecture.

A Megatron tensor is a sequence of *pieces*, each a run of rows (or columns) of one Hugging Face tensor. A `Layout`
says which pieces, for the whole tensor or for one tensor-parallel rank, so the same table serves loading (read the
pieces of this rank) and export (write the pieces of the whole tensor back). To add an architecture, add a table; a
new `Layout` is needed only for a new way of arranging rows.

    names     `{layer}` stands for the layer's number, counted over the whole model
    shapes    words of `_dimensions`, outermost first
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from megatron_sft.errors import ConversionError
from megatron_sft.model.geometry import ModelGeometry


class Layout(enum.Enum):
    """How a Megatron tensor is made from its Hugging Face tensors, and how tensor parallelism splits it."""

    REPLICATED = "the same tensor, whole on every rank"
    ROWS = "the same tensor, rows split over ranks"
    COLUMNS = "the same tensor, columns split over ranks"
    VOCABULARY = "the same rows and then rows of zeros up to the padded vocabulary; rows split over ranks"
    QUERY_GROUPS = "for each query group its query heads, its key head, its value head; groups split over ranks"
    GATE_UP = "this rank's rows of the gate, then this rank's rows of the up projection"

    @property
    def dim(self) -> int:
        """The dimension along which pieces are strung together and ranks split."""
        return 1 if self is Layout.COLUMNS else 0


@dataclass(frozen=True)
class HfTensor:
    """A tensor's name and shape in the Hugging Face model."""

    name: str
    shape: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """One Megatron tensor and the Hugging Face tensors that it holds."""

    megatron: tuple[str, ...]
    """Spellings. Checkpoints and TransformerEngine layers fuse a norm into the linear layer that follows it."""
    hf: tuple[HfTensor, ...]
    """In the order in which the layout takes them: (query, key, value), (gate, up), or the only one.

    One tensor alone under `QUERY_GROUPS` has its rows in that order already.
    """
    layout: Layout


@dataclass(frozen=True)
class ArchitectureMap:
    """The table of one architecture."""

    hf_architecture: str
    """Class name for `architectures` in config.json."""
    before_layers: tuple[Rule, ...]
    layer: tuple[Rule, ...]
    after_layers: tuple[Rule, ...]
    untied_output: Rule
    """The output layer of a model whose output layer is not the embedding."""
    is_in_transformers: bool = True
    """Whether transformers has the architecture's code itself; else it comes with the model, and is never run here."""


@dataclass(frozen=True)
class Piece:
    """Rows (columns for `Layout.COLUMNS`) `start` to `stop` of a Hugging Face tensor; zeros when `source` is None."""

    source: int | None
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Rows or columns."""
        return self.stop - self.start


@dataclass(frozen=True)
class Entry:
    """A rule applied to one layer of a given model (or to none: embedding, final norm, output layer)."""

    rule: Rule
    layer: int | None
    hf: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and shape of each Hugging Face tensor."""

    @property
    def megatron_names(self) -> tuple[str, ...]:
        """Full names of the Megatron tensor, one per spelling."""
        return tuple(name.format(layer=self.layer) for name in self.rule.megatron)

    def shape(self, size: int, padded_vocab_size: int) -> tuple[int, ...]:
        """Shape of the Megatron tensor on each of `size` tensor-parallel ranks."""
        rows = sum(shape[0] for _, shape in self.hf)
        columns = self.hf[0][1][1:]
        match self.rule.layout:
            case Layout.REPLICATED:
                return (rows, *columns)
            case Layout.VOCABULARY:
                return (padded_vocab_size // size, *columns)
            case Layout.COLUMNS:
                return (rows, columns[0] // size)
            case _:
                return (rows // size, *columns)

    def pieces(self, geometry: ModelGeometry, *, rank: int, size: int, padded_vocab_size: int) -> Iterator[Piece]:
        """Yield the pieces of this rank's tensor in their order; `rank=0, size=1` gives the whole tensor.

        Example: 4 query heads in 2 groups, heads of width 8, rank 1 of 2 holds group 1:
        rows 16-31 of the query projection (heads 2 and 3), rows 8-15 of the key and of the value projection.

        Raises:
            ConversionError: when `size` does not divide what it has to split.
        """
        match self.rule.layout:
            case Layout.REPLICATED:
                yield Piece(0, 0, self.hf[0][1][0])
            case Layout.ROWS | Layout.COLUMNS | Layout.GATE_UP:
                dim = self.rule.layout.dim
                for source, (_, shape) in enumerate(self.hf):
                    share = self._share(shape[dim], size)
                    yield Piece(source, rank * share, (rank + 1) * share)
            case Layout.VOCABULARY:
                share = self._share(padded_vocab_size, size)
                start, stop = rank * share, (rank + 1) * share
                real = min(max(geometry.vocab_size, start), stop)
                if real > start:
                    yield Piece(0, start, real)
                if stop > real:
                    yield Piece(None, real, stop)
            case Layout.QUERY_GROUPS:
                share = self._share(geometry.num_query_groups, size)
                widths = [shape[0] // geometry.num_query_groups for _, shape in self.hf]
                for group in range(rank * share, (rank + 1) * share):
                    for source, width in enumerate(widths):
                        yield Piece(source, group * width, (group + 1) * width)

    def _share(self, count: int, size: int) -> int:
        if count % size:
            raise ConversionError(
                f"{self.megatron_names[0]}: {count} cannot be split evenly over {size} tensor-parallel ranks; "
                "choose a divisor"
            )
        return count // size


def architecture_map(geometry: ModelGeometry) -> ArchitectureMap:
    """The table for this model.

    Raises:
        ConversionError: for an architecture without one.
    """
    if geometry.model_type not in _MAPS:
        raise ConversionError(f"no conversion for model_type {geometry.model_type!r}; there is: {', '.join(_MAPS)}")
    return _MAPS[geometry.model_type]


def entries(geometry: ModelGeometry) -> list[Entry]:
    """Every tensor of the model, in the order in which an export writes them."""
    table = architecture_map(geometry)
    rules: list[tuple[Rule, int | None]] = [(rule, None) for rule in table.before_layers]
    rules += [(rule, layer) for layer in range(geometry.num_layers) for rule in table.layer]
    rules += [(rule, None) for rule in table.after_layers]
    if not geometry.tie_word_embeddings:
        rules.append((table.untied_output, None))
    sizes = _dimensions(geometry)
    return [_entry(rule, layer, sizes) for rule, layer in rules]


def _entry(rule: Rule, layer: int | None, sizes: Mapping[str, int]) -> Entry:
    hf = tuple((tensor.name.format(layer=layer), tuple(sizes[word] for word in tensor.shape)) for tensor in rule.hf)
    return Entry(rule=rule, layer=layer, hf=hf)


def _dimensions(geometry: ModelGeometry) -> dict[str, int]:
    queries = geometry.num_attention_heads * geometry.kv_channels
    keys = geometry.num_query_groups * geometry.kv_channels
    return {
        "vocab": geometry.vocab_size,
        "hidden": geometry.hidden_size,
        "ffn": geometry.ffn_hidden_size,
        "head": geometry.kv_channels,
        "queries": queries,
        "keys": keys,
        "qkv": queries + 2 * keys,
    }


_LAYER = "decoder.layers.{layer}."
_ATTENTION = _LAYER + "self_attention."


@dataclass(frozen=True, kw_only=True)
class _Names:
    """What an architecture calls the tensors that all have; those of a layer without `model.layers.N.`."""

    embedding: str
    attention_norm: str
    attention_output: str
    mlp_norm: str
    gate: str
    up: str
    down: str
    output: str


def _table(hf_architecture: str, names: _Names, attention: tuple[Rule, ...]) -> ArchitectureMap:
    """A decoder with gated feed-forward layers; `attention` has the rules from queries, keys and values up."""
    norm = ("hidden",)
    return ArchitectureMap(
        hf_architecture=hf_architecture,
        before_layers=(
            Rule(
                ("embedding.word_embeddings.weight",),
                (HfTensor(names.embedding, ("vocab", "hidden")),),
                Layout.VOCABULARY,
            ),
        ),
        layer=(
            Rule(
                (_LAYER + "input_layernorm.weight", _ATTENTION + "linear_qkv.layer_norm_weight"),
                (_in_layer(names.attention_norm, *norm),),
                Layout.REPLICATED,
            ),
            *attention,
            Rule(
                (_ATTENTION + "linear_proj.weight",),
                (_in_layer(names.attention_output, "hidden", "queries"),),
                Layout.COLUMNS,
            ),
            Rule(
                (_LAYER + "pre_mlp_layernorm.weight", _LAYER + "mlp.linear_fc1.layer_norm_weight"),
                (_in_layer(names.mlp_norm, *norm),),
                Layout.REPLICATED,
            ),
            Rule(
                (_LAYER + "mlp.linear_fc1.weight",),
                (_in_layer(names.gate, "ffn", "hidden"), _in_layer(names.up, "ffn", "hidden")),
                Layout.GATE_UP,
            ),
            Rule((_LAYER + "mlp.linear_fc2.weight",), (_in_layer(names.down, "hidden", "ffn"),), Layout.COLUMNS),
        ),
        after_layers=(
            Rule(("decoder.final_layernorm.weight",), (HfTensor("model.norm.weight", norm),), Layout.REPLICATED),
        ),
        untied_output=Rule(("output_layer.weight",), (HfTensor(names.output, ("vocab", "hidden")),), Layout.VOCABULARY),
    )


def _in_layer(name: str, *shape: str) -> HfTensor:
    return HfTensor("model.layers.{layer}." + name, shape)


def _projections(kind: str, *columns: str) -> Rule:
    """Queries, keys and values: their `weight` or `bias`."""
    rows = {"q_proj": "queries", "k_proj": "keys", "v_proj": "keys"}
    hf = tuple(_in_layer(f"self_attn.{name}.{kind}", size, *columns) for name, size in rows.items())
    return Rule((f"{_ATTENTION}linear_qkv.{kind}",), hf, Layout.QUERY_GROUPS)


def _head_norm(which: str) -> Rule:
    return Rule(
        (f"{_ATTENTION}{which}_layernorm.weight",),
        (_in_layer(f"self_attn.{which}_norm.weight", "head"),),
        Layout.REPLICATED,
    )


_LLAMA_NAMES = _Names(
    embedding="model.embed_tokens.weight",
    attention_norm="input_layernorm.weight",
    attention_output="self_attn.o_proj.weight",
    mlp_norm="post_attention_layernorm.weight",
    gate="mlp.gate_proj.weight",
    up="mlp.up_proj.weight",
    down="mlp.down_proj.weight",
    output="lm_head.weight",
)
_INTERNLM2_NAMES = _Names(
    embedding="model.tok_embeddings.weight",
    attention_norm="attention_norm.weight",
    attention_output="attention.wo.weight",
    mlp_norm="ffn_norm.weight",
    gate="feed_forward.w1.weight",
    up="feed_forward.w3.weight",
    down="feed_forward.w2.weight",
    output="output.weight",
)

# InternLM2 computes queries, keys and values by one matrix. Its own `modeling_internlm2.py` takes the product apart by
# rearrange("b q (h gs d) -> b q h gs d", gs=2 + heads / key-value heads, d=head width): h runs over the key-value
# heads, and of each one's gs blocks the last is its value, the one before its key, and the first ones the queries that
# it serves. This is the order of Megatron-Core's linear_qkv, row by row.
_WQKV = Rule(
    (_ATTENTION + "linear_qkv.weight",), (_in_layer("attention.wqkv.weight", "qkv", "hidden"),), Layout.QUERY_GROUPS
)

_WEIGHTS, _BIASES = _projections("weight", "hidden"), _projections("bias")
_MAPS: Mapping[str, ArchitectureMap] = {
    "qwen3": _table("Qwen3ForCausalLM", _LLAMA_NAMES, (_WEIGHTS, _head_norm("q"), _head_norm("k"))),
    "qwen2": _table("Qwen2ForCausalLM", _LLAMA_NAMES, (_WEIGHTS, _BIASES)),
    "llama": _table("LlamaForCausalLM", _LLAMA_NAMES, (_WEIGHTS,)),
    "internlm2": replace(_table("InternLM2ForCausalLM", _INTERNLM2_NAMES, (_WQKV,)), is_in_transformers=False),
}
