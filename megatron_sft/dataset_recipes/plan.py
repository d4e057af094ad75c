"""Which stages a command needs, from its recipe, what the command names, and what it overrides."""

import dataclasses
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.dataset_recipes import chain
from megatron_sft.dataset_recipes.options import BuildDatasetConfig
from megatron_sft.dataset_recipes.recipe import (
    GenerateSpec,
    Recipe,
    SelectSpec,
    SourceSpec,
    load,
)
from megatron_sft.dataset_recipes.sources import Hashes, Source, expand, open_source
from megatron_sft.dataset_recipes.stages import Stage
from megatron_sft.errors import ConfigError
from megatron_sft.recipes.values import nearest

TRACES = "traces"


@dataclass(kw_only=True)
class Plan:
    """A build, ready to be judged and run."""

    recipe: Recipe
    """With the command's values in place of its own."""
    base: Recipe | None
    """The recipe whose rows are made on the way, or were made before."""
    tokenizer: ChatTokenizer
    stages: list[Stage] = field(default_factory=list)
    """Up to the shards."""
    sources: dict[str, Source] = field(default_factory=dict)
    deviations: list[dict[str, Any]] = field(default_factory=list)
    """What differs from the recipe as it stands: `what`, `recipe`, `used`."""
    route: str = ""
    """Where the rows come from, in words."""
    generate: GenerateSpec | None = None
    """How the rows, or those that the set starts from, are made by the recipe; with the command's values."""


class Planner:
    """Decides over the route and its stages."""

    def __init__(self, config: BuildDatasetConfig) -> None:
        """Read recipe and tokenizer.

        Raises:
            ConfigError: for a recipe or an option that cannot work.
        """
        self._config = config
        self._given = config.pairs("source")
        self._overrides = config.column_overrides()
        self._hashes = Hashes(config.output / "stages" / "hashes.json")
        recipe, base = load(config.recipe)
        tokenizer = ChatTokenizer(config.tokenizer)
        self.plan = Plan(recipe=self._limited(recipe), base=base and self._limited(base), tokenizer=tokenizer)
        if config.max_length not in (None, recipe.shards.max_length):
            self._differs("shards: max_length", recipe.shards.max_length, config.max_length)
        self.plan.generate = recipe.generate or (base.generate if base else None)
        self._used: set[str] = set()

    def make(self) -> Plan:
        """Return the plan.

        Raises:
            ConfigError: for options that have no effect, and sources that are not there.
        """
        config, plan = self._config, self.plan
        recipe, base = plan.recipe, plan.base
        self._check_names()
        generates = False
        if recipe.name in self._given:
            plan.route = f"the finished rows of {recipe.name}"
            start = self._open(recipe.name, recipe.published or SourceSpec())
            recipe = dataclasses.replace(recipe, start=None, queries=None, generate=None, select=SelectSpec())
            recipe = self._expecting(dataclasses.replace(recipe, transform=None, sources={}))
            candidates = chain.started(plan, config, recipe, start, "", None)
        elif recipe.generate is not None:
            generates = True
            recipe = self._expecting(self._sampled(recipe))
            candidates = self._made(recipe, config.output, "")
        elif base is None or base.name in self._given or not self._builds(base):
            recipe = self._expecting(recipe)
            candidates = self._started(recipe, base)
        else:
            generates = True
            base = plan.base = self._sampled(self._base_expecting(base))
            recipe = self._expecting(recipe)
            rows = self._made(base, config.output / "base", "base-")
            chain.add_rows(plan, config, base, rows, folder=config.output / "base", prefix="base-")
            plan.route += f", then from the rows of {base.name}"
            joined = self._joined(recipe)
            candidates = chain.started(plan, config, recipe, None, "base-rows", joined)
        plan.recipe = recipe
        chain.add_rows(plan, config, recipe, candidates, folder=config.output, prefix="")
        chain.add_shards(plan, config, recipe)
        self._refuse_unused(generates)
        return plan

    # ---- the routes ----

    def _made(self, recipe: Recipe, folder: Path, prefix: str) -> chain.Candidates:
        """Add queries and traces, or take the traces that are there."""
        config, plan = self._config, self.plan
        if config.traces:
            self._used.add(TRACES)
            files = expand("--traces", config.traces)
            plan.route = f"traces that are there ({len(files)} files)"
            spec = SourceSpec(licence="as the traces' own")
            source = open_source(TRACES, spec, None, self._overrides.get(TRACES, {}), self._hashes, files=files)
            plan.sources[TRACES] = source
            return chain.Candidates(source=source, after=(), order=None, columns=source.columns)
        assert recipe.queries is not None and recipe.generate is not None
        teacher = config.teacher_options
        if teacher.teacher is None:
            raise ConfigError(
                f"{recipe.name} asks {recipe.generate.teacher}: name the model folder with --teacher FOLDER, or a "
                "server with --endpoint URL --teacher NAME --teacher-tokenizer FOLDER; or give --traces FILES, or the "
                f"finished rows with --source {recipe.name}=PATH"
            )
        if Path(teacher.teacher).name != Path(recipe.generate.teacher).name:
            self._differs("teacher", recipe.generate.teacher, Path(teacher.teacher).name)
        if teacher.max_model_len is not None:
            self._differs("max_model_len", "the model's own", teacher.max_model_len)
        plan.route = "queries, answered by the teacher"
        source = self._open(recipe.queries.source, recipe.sources[recipe.queries.source])
        return chain.generated(plan, config, recipe, source, folder, prefix)

    def _started(self, recipe: Recipe, base: Recipe | None) -> chain.Candidates:
        """Begin with rows that are there."""
        start = recipe.start
        assert start is not None
        if base is not None:
            source = self._open(base.name, base.published or SourceSpec())
        else:
            assert start.source is not None
            source = self._open(start.source, recipe.sources[start.source])
        self.plan.route = f"the finished rows of {source.name}"
        return chain.started(self.plan, self._config, recipe, source, "", self._joined(recipe))

    def _joined(self, recipe: Recipe) -> Source | None:
        join = recipe.transform.join if recipe.transform else None
        return self._open(join.source, recipe.sources[join.source]) if join else None

    def _builds(self, base: Recipe) -> bool:
        """Say whether the command names what the base is made of."""
        config = self._config
        return bool(config.traces or config.teacher_options.words() or set(base.sources) & set(self._given))

    def _open(self, name: str, spec: SourceSpec) -> Source:
        self._used.add(name)
        source = open_source(name, spec, self._given.get(name), self._overrides.get(name, {}), self._hashes)
        self.plan.sources[name] = source
        return source

    # ---- the command's values in place of the recipe's ----

    def _limited(self, recipe: Recipe) -> Recipe:
        shards = recipe.shards
        max_length = self._config.max_length or shards.max_length
        return dataclasses.replace(recipe, shards=dataclasses.replace(shards, max_length=max_length))

    def _sampled(self, recipe: Recipe) -> Recipe:
        config = self._config
        generate = recipe.generate
        assert generate is not None and recipe.queries is not None
        if config.traces:
            return recipe
        given = config.sampling.given()
        for name, value in given.items():
            if value != getattr(generate, name):
                self._differs(f"sampling: {name}", getattr(generate, name), value)
        queries = recipe.queries
        if config.draw_queries is not None and config.draw_queries != queries.draw:
            self._differs("queries: draw", queries.draw, config.draw_queries)
            queries = dataclasses.replace(queries, draw=config.draw_queries)
        replaced: GenerateSpec = dataclasses.replace(generate, **given)
        self.plan.generate = replaced
        return dataclasses.replace(recipe, generate=replaced, queries=queries)

    def _expecting(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the number of rows that the command gives."""
        config, transform = self._config, recipe.transform
        if config.expected_rows is not None and config.expected_rows != recipe.expected_rows:
            self._differs("expected_rows", recipe.expected_rows, config.expected_rows)
        if config.expected_rows is not None and transform is not None and transform.subset is not None:
            subset = dataclasses.replace(transform.subset, num=config.expected_rows)
            transform = dataclasses.replace(transform, subset=subset)
        rows = config.expected_rows or recipe.expected_rows
        recipe = dataclasses.replace(recipe, expected_rows=rows, transform=transform)
        return self._drawing(recipe, config.expected_rows) if recipe.generate is not None else recipe

    def _base_expecting(self, base: Recipe) -> Recipe:
        has_subset = self.plan.recipe.transform is not None and self.plan.recipe.transform.subset is not None
        base = self._drawing(base, None if has_subset else self._config.expected_rows)
        return dataclasses.replace(base, expected_rows=base.select.num_queries or base.expected_rows)

    def _drawing(self, recipe: Recipe, fallback: int | None) -> Recipe:
        """Return the recipe with the number of queries that the command gives, if the recipe draws any."""
        select = recipe.select
        num = self._config.num_queries or (fallback if select.num_queries is not None else None) or select.num_queries
        if num != select.num_queries:
            self._differs("select: num_queries", select.num_queries, num)
        return dataclasses.replace(recipe, select=dataclasses.replace(select, num_queries=num))

    def _differs(self, what: str, recipe: Any, used: Any) -> None:
        self.plan.deviations.append({"what": what, "recipe": recipe, "used": used})

    # ---- checks ----

    def _names(self) -> list[str]:
        recipe, base = self.plan.recipe, self.plan.base
        names = [recipe.name, *recipe.sources]
        return [*names, base.name, *base.sources] if base is not None else names

    def _check_names(self) -> None:
        known = self._names()
        for option, names in (("--source", self._given), ("--columns", self._overrides)):
            for name in names:
                if name not in known and not (option == "--columns" and name == TRACES):
                    remedy = nearest(name, known)
                    raise ConfigError(f"{option} {name}: the recipe has no such source, but {', '.join(known)}{remedy}")

    def _refuse_unused(self, generates: bool) -> None:
        config = self._config
        unused = [name for name in (*self._given, *self._overrides) if name not in self._used]
        if unused:
            raise ConfigError(
                f"--source or --columns {unused[0]}: has no effect, as the build starts from {self.plan.route}"
            )
        asks = generates and not config.traces
        without_effect = {
            "--traces": bool(config.traces) and not generates,
            "--teacher and the like": bool(config.teacher_options.words()) and not asks,
            "--num-samples and the like": bool(config.sampling.given()) and not asks,
            "--draw-queries": config.draw_queries is not None and not asks,
            "--allow-failed-samples": config.allow_failed_samples and not asks,
            "--num-queries": config.num_queries is not None and not generates,
        }
        for option, is_so in without_effect.items():
            if is_so:
                raise ConfigError(f"{option}: has no effect, as the build starts from {self.plan.route}")


def resolved(recipe: Recipe | None) -> dict[str, Any] | None:
    """Return a recipe as JSON holds it."""
    return asdict(recipe) if recipe is not None else None
