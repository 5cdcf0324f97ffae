"""What pages say by themselves: the help of every command and the keys of ``params.yaml``. A hook of MkDocs."""

import argparse
import inspect
from collections.abc import Callable
from typing import Any

from medssl import cli, config
from medssl.config import cohort, run

SECTIONS = {
    "The whole file": config.Params,
    "tracking": config.Tracking,
    "compute": config.Compute,
    "synthetic.NAME": cohort.Synthetic,
    "modalities.NAME.source": cohort.Source,
    "modalities.NAME.ingest of ECG, PPG, EEG": cohort.SignalIngest,
    "modalities.NAME.ingest of CT, MRI": cohort.VolumeIngest,
    "modalities.NAME.dedup": cohort.Dedup,
    "modalities.NAME.split": cohort.SplitParams,
    "runs.NAME": run.Run,
    "runs.NAME.encoder": run.EncoderParams,
    "runs.NAME.pretrain": run.Pretrain,
    "runs.NAME.pretrain.batch": run.Batch,
    "runs.NAME.pretrain.positives": run.Positives,
    "runs.NAME.pretrain.regulariser": run.Regulariser,
    "runs.NAME.pretrain.predict": run.Predict,
    "runs.NAME.evaluate": run.Evaluate,
    "release.NAME": config.Release,
}
BOUNDS = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ ", "exclusiveMaximum": "< "}


def allowed(schema: dict[str, Any]) -> str:
    """Return in words what a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(allowed(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema:
        return "section"
    words = {"array": "list", "object": "mapping", "string": "text"}.get(
        schema.get("type", ""), schema.get("type", "any")
    )
    return ", ".join([words, *(f"{sign}{schema[key]:g}" for key, sign in BOUNDS.items() if key in schema)])


def table(section: type[config.Options] | type[Any]) -> str:
    """Return a section of the file: what it is for, then key, default and what is allowed, Markdown."""
    lines = [inspect.getdoc(section) or ""]
    fields = section.model_json_schema()
    if rows := fields.get("properties"):
        lines += ["", "| key | default | allowed |", "|---|---|---|"]
        for key, schema in rows.items():
            needed = key in fields.get("required", [])
            default = section.model_fields[key].get_default(call_default_factory=True)
            shown = "needed" if needed else "section" if isinstance(default, config.Section) else f"`{default}`"
            shown = (
                shown.replace("`None`", "`null`")
                .replace("`True`", "`true`")
                .replace("`False`", "`false`")
                .replace("`()`", "`[]`")
            )
            lines.append(f"| `{key}` | {shown} | {allowed(schema)} |")
    return "\n".join(lines)


def params() -> str:
    """Return all sections but those of the recipes."""
    return "\n\n".join(f"## {name}\n\n{table(section)}" for name, section in SECTIONS.items())


def options() -> str:
    """Return the options of every recipe; recipes with the same ones share them."""
    names = {
        section: [name for name, other in config.OPTIONS.items() if other is section]
        for section in config.OPTIONS.values()
    }
    return "\n\n".join(f"### {', '.join(of)}\n\n{table(section)}" for section, of in names.items())


def commands() -> str:
    """Return the help of each command."""
    top = cli.parser()
    [found] = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    does = {action.dest: action.help for action in found._choices_actions}
    return "\n\n".join(
        f"## medssl {name}\n\n{does[name]}\n\n```text\n{parser.format_help().strip()}\n```"
        for name, parser in found.choices.items()
    )


MARKS: dict[str, Callable[[], str]] = {
    "<!-- commands -->": commands,
    "<!-- params -->": params,
    "<!-- options -->": options,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the marks of a page."""
    for mark, made in MARKS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, made())
    return markdown
