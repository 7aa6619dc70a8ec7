"""One self-contained HTML page of a runs folder: opens offline, needs no script, works by keyboard and when narrow."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from deeploc_bench.plan import store
from deeploc_bench.results.figures import iou_histogram, validation_curves
from deeploc_bench.results.render import number
from deeploc_bench.scoring.dialects import DIALECTS, find_dialect
from deeploc_bench.scoring.metrics import image_ious, iou
from deeploc_bench.scoring.rows import Cell, Row, make_rows, mean_row

STYLE = """
:root{color-scheme:light dark;--ink:#1c1e21;--paper:#fff;--line:#d0d4da;--soft:#f3f5f8;--mark:31,111,235}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--paper:#14161a;--line:#3a3f47;--soft:#1e2228;--mark:88,150,255}}
*{box-sizing:border-box}body{margin:0;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
main,nav{max-width:64rem;margin:0 auto;padding:1rem}h2{margin-top:3rem;border-bottom:2px solid var(--line)}
.wide{overflow-x:auto;margin:1rem 0}.wide:focus{outline:3px solid rgb(var(--mark))}
table{border-collapse:collapse}caption{text-align:left;font-weight:600;padding:.4rem 0}
th,td{border:1px solid var(--line);padding:.3rem .6rem;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}
thead th{background:var(--soft)}figure{margin:1rem 0}figure svg,figure img{max-width:100%;height:auto;background:#fff}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1rem}
.panels img{width:100%;image-rendering:pixelated}summary{cursor:pointer;font-weight:600}pre{white-space:pre-wrap}
a{color:rgb(var(--mark))}a:focus,summary:focus{outline:3px solid rgb(var(--mark))}
"""
MOST_PANELS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What the page shows of one suite: its cells, and the runs folder that they lie in."""

    suite: str
    standard: Sequence[str]
    cells: Sequence[Cell]
    runs: Path


def render_report(parts: Sequence[Part]) -> str:
    """Return the whole page."""
    links = "".join(f'<li><a href="#{escape(part.suite)}">{escape(part.suite)}</a></li>' for part in parts)
    body = "".join(_suite(part) for part in parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>deeploc-bench report</title><style>{STYLE}</style></head><body>"
        f'<nav aria-label="Suites"><ul>{links}</ul></nav><main><h1>deeploc-bench report</h1>'
        "<p>IoU is the mean over test images of tp / (tp + fp + fn) at heatmap &gt; 0.5; intervals are 95 % over "
        f"source photographs.</p>{body}</main></body></html>\n"
    )


def _suite(part: Part) -> str:
    own = [cell for cell in part.cells if cell.loss is not None or cell.protocol == "score"]
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in own:
        groups.setdefault(cell.group, []).append(cell)
    sections = "".join(_group(part, cells) for cells in groups.values())
    return (
        f'<section id="{escape(part.suite)}"><h2>Suite {escape(part.suite)}</h2>{_floors(part)}{sections}'
        f"{_dialects(own)}{_provenance(part, own)}</section>"
    )


def _group(part: Part, cells: Sequence[Cell]) -> str:
    first = cells[0]
    clean = [cell for cell in cells if not cell.perturbation]
    rows = make_rows(clean)
    title = f"{first.protocol} · {first.model}{f' + {first.loss}' if first.loss else ''} · {first.recipe}"
    budget = " · matched budget" if first.budget == "matched" else ""
    shown = _matrix(rows) if first.protocol == "cross" else _rows(rows, part.standard)
    pieces = [f"<h3>{escape(title + budget)}</h3>", shown]
    if first.protocol in ("same", "loo"):
        pieces += [_curves(part, clean, title), _distribution(clean), _panels(part, clean)]
    return "".join(pieces)


def _rows(rows: Sequence[Row], standard: Sequence[str]) -> str:
    ranked = [row for row in rows if row.test_generator in standard]
    lines = [["+".join(row.train_generators) or "not declared", row.test_generator, *_figures(row)] for row in rows]
    if len(ranked) > 1:
        lines.append(["mean", "", *_figures(mean_row(ranked))])
    return table("IoU", ["train on", "test on", "IoU", "95 % interval", "sd over seeds", "false alarm area"], lines)


def _figures(row: Row) -> list[str]:
    bounds = f"{number(row.interval.low)} to {number(row.interval.high)}"
    return [number(row.iou), bounds, number(row.spread), number(row.false_alarm_area)]


def _matrix(rows: Sequence[Row]) -> str:
    tests = list(dict.fromkeys(row.test_generator for row in rows))
    head = "".join(f'<th scope="col">{escape(test)}</th>' for test in tests)
    lines = []
    for train in dict.fromkeys(row.train_generators for row in rows):
        mine = {row.test_generator: row.iou for row in rows if row.train_generators == train}
        shades = "".join(
            f'<td class="n" style="background:rgba(var(--mark),{mine.get(test, 0) * 0.6:.2f})">'
            f"{number(mine.get(test, math.nan))}</td>"
            for test in tests
        )
        lines.append(f'<tr><th scope="row">{escape("+".join(train))}</th>{shades}</tr>')
    return _wide(
        f"<table><caption>Trained on (rows), tested on (columns)</caption><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>",
        "train x test matrix",
    )


def _curves(part: Part, cells: Sequence[Cell], title: str) -> str:
    curves: dict[str, list[list[float]]] = {}
    for training, cell in {cell.training: cell for cell in cells}.items():
        if cell.loss:
            curves.setdefault("+".join(cell.train_generators), []).append(store.read_validation(part.runs / training))
    return _figure(validation_curves(title, curves)["svg"], "Validation IoU by epoch") if curves else ""


def _distribution(cells: Sequence[Cell]) -> str:
    ious: dict[str, list[float]] = {}
    for cell in cells:
        ious.setdefault(cell.test_generator, []).extend(image_ious(cell.records).tolist())
    return _figure(iou_histogram(ious), "IoU of each test image, by test generator")


def _panels(part: Part, cells: Sequence[Cell]) -> str:
    found = []
    for cell in cells:
        values = dict(zip(cell.records.ids, image_ious(cell.records).tolist(), strict=True))
        prefix = f"{cell.test_generator}-"
        for file in sorted((part.runs / cell.training / "examples").glob(f"{prefix}*.png")):
            id = file.stem.removeprefix(prefix)
            if id in values:
                found.append((values[id], cell.test_generator, id, file))
    found.sort(key=lambda one: (-one[0], one[1], one[2]))
    chosen = (
        [found[place] for place in sorted({round(p) for p in np.linspace(0, len(found) - 1, MOST_PANELS)})]
        if found
        else []
    )
    figures = "".join(
        f'<figure><img alt="image, truth, heatmap and prediction of {escape(id)}" src="{_panel(file)}">'
        f"<figcaption>{escape(test)} · {escape(id)} · IoU {value:.2f}</figcaption></figure>"
        for value, test, id, file in chosen
    )
    return (
        f"<h4>Examples, best to worst: image, truth, heatmap, prediction</h4><div class=panels>{figures}</div>"
        if found
        else ""
    )


def _panel(file: Path) -> str:
    with Pillow.open(file) as picture:
        pixels = np.array(picture)
    width = pixels.shape[1] // 3
    prediction = np.where(pixels[:, 2 * width :] > 127, 255, 0).astype(np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(np.concatenate([pixels, prediction], axis=1)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _floors(part: Part) -> str:
    floors = {
        (c.model, c.test_generator): iou(c.records) for c in part.cells if c.loss is None and c.protocol != "score"
    }
    lines = [[model, test, number(value)] for (model, test), value in sorted(floors.items())]
    return table("Trivial baselines, never trained", ["model", "test on", "IoU"], lines) if lines else ""


def _dialects(cells: Iterable[Cell]) -> str:
    dialects = [find_dialect(name) for name in DIALECTS]
    lines = [
        [
            cell.protocol,
            f"{cell.model} + {cell.loss}" if cell.loss else cell.model,
            str(cell.seed),
            "+".join(cell.train_generators),
            cell.test_generator,
            *(f"{dialect.score(cell.records):.3f}" for dialect in dialects),
        ]
        for cell in cells
        if not cell.perturbation
    ]
    heads = ["protocol", "model", "seed", "train on", "test on", *(dialect.name for dialect in dialects)]
    notes = "".join(f"<li><b>{escape(d.name)}</b>: {escape(d.what)}</li>" for d in dialects)
    return (
        "<h3>The same records in every dialect of IoU</h3><details><summary>Table of all cells</summary>"
        f"{table('IoU by dialect', heads, lines)}<ul>{notes}</ul></details>"
    )


def _provenance(part: Part, cells: Sequence[Cell]) -> str:
    lines = []
    for training in sorted({cell.training for cell in cells}):
        inputs = store.read_json(part.runs / training / "training.json") or {}
        made = store.read_json(part.runs / training / "environment.json") or {}
        versions: Mapping[str, str] = made.get("versions", {})
        lines.append(
            [
                training,
                str(inputs.get("identity", ""))[:16],
                str(made.get("device_name", "")),
                str(made.get("precision", "")),
                str(made.get("threads", "")),
                str(made.get("wall_seconds", "")),
                ", ".join(f"{name} {version}" for name, version in versions.items()),
            ]
        )
    heads = ["training", "identity", "device", "precision", "threads", "seconds", "versions"]
    shown = table("Trainings", heads, lines)
    return f"<h3>Provenance</h3><details><summary>Every training and where it was done</summary>{shown}</details>"


def table(caption: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return an HTML table that scrolls sideways where it is too wide; numbers are set to the right."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(f"<tr>{''.join(_cell(text) for text in line)}</tr>" for line in lines)
    text = f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return _wide(text, caption)


def _cell(text: str) -> str:
    return f'<td class="n">{escape(text)}</td>' if text.replace(".", "").isdigit() else f"<td>{escape(text)}</td>"


def _wide(inner: str, label: str) -> str:
    return f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}">{inner}</div>'


def _figure(svg: bytes, caption: str) -> str:
    drawing = svg[svg.index(b"<svg") :].decode()
    shown = escape(caption)
    return f'<figure role="img" aria-label="{shown}">{drawing}<figcaption>{shown}</figcaption></figure>'
