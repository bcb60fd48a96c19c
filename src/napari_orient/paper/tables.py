"""The experiment's figures as tables for people and for programs, with chance and the paper beside them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator

from napari_orient.paper.stages import Record

PAPER = {"6d": (0.96, 0.87, 0.81), "quaternion": (0.76, -0.47, None), "euler": (-0.07, -0.07, None)}
"""The paper's own figures: R² in training and in test, and the share within what its code counts as 20°."""

_COLUMNS = (
    *("network", "title", "class", "representation", "width", "epochs", "answer", "trained_on", "tested_on"),
    *("r_squared_training", "r_squared", "within_20", "within_20_error", "within_24.56", "within_24.56_error"),
    *("median_deg", "mean_deg"),
)


def texts(record: Record) -> dict[str, str]:
    """The text of each table by its file's name."""
    pages = {"table.md": table_md(record), "crowther.md": crowther_md(record)}
    if record["options"]["ablation"]:
        pages["ablation.md"] = ablation_md(record)
    return {"table.csv": table_csv(record), **{name: _page(lines) for name, lines in pages.items()}}


def table_csv(record: Record) -> str:
    """Every network, one a row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name, row in record["networks"].items():
        figures = row[row["answer"]]
        writer.writerow(
            [
                name,
                row["title"],
                row["subject"],
                row["network"]["representation"],
                row["network"]["width"],
                row["training"]["epochs"],
                row["answer"],
                row["trained_on"],
                figures["count"],
                *(f"{row[key]:.4f}" for key in ("r_squared_training", "r_squared")),
                *(f"{figures[part][angle]:.4f}" for angle in ("20", "24.56") for part in ("within", "within_error")),
                f"{figures['median_deg']:.3f}",
                f"{figures['mean_deg']:.3f}",
            ]
        )
    return out.getvalue()


def table_md(record: Record) -> Iterator[str]:
    """The paper's table: each representation and recipe, with chance and the paper's own figures."""
    sample = record["sample"]
    yield f"Tomograms: {sample['source']}; {_parts(sample['tomograms'])}. Seed {record['options']['seed']}."
    for code, counts in sample["particles"].items():
        yield f"Particles of {code}: {_parts(counts)}."
    yield ""
    yield "| network | R² training | R² test | within 20° | within 24.56° | median | paper: R², R²; within 24.56° |"
    yield "|---|---|---|---|---|---|---|"
    first = next(iter(sample["particles"]))
    for name, row in record["networks"].items():
        if name.startswith(("printed-", "code-", "wide-")) and not name.split("-")[1].isdigit():
            yield _table_row(
                row, paper=PAPER.get(row["network"]["representation"]) if name.startswith("printed-") else None
            )
    chance = record["chance"][first]
    yield f"| a random guess | | | {chance['20']:.2%} | {chance['24.56']:.2%} | | |"
    yield ""
    yield "R² is of raw outputs, before a rotation is made of them, all components pooled. ± is the standard error by"
    yield "drawing test tomograms anew. 24.56° of true angle is what the paper's released code counts as 20°."
    yield from _symmetric(record)
    yield from _elsewhere(record)


def ablation_md(record: Record) -> Iterator[str]:
    """What matters: each change, and one line that reads it."""
    yield "| network | trained on | R² test | within 20° | within 24.56° | median | reading |"
    yield "|---|---|---|---|---|---|---|"
    networks = record["networks"]
    for name, row in networks.items():
        base = networks.get(row["against"])
        if row["subject"] == next(iter(record["sample"]["particles"])) and (base or name.startswith("printed-")):
            yield _ablation_row(row, base)
    levels = {name: found for name, found in record["elsewhere"].items() if name.startswith("snr_")}
    if levels:
        yield ""
        yield "| signal-to-noise of micrographs | network | within 20° | within 24.56° | median | reading |"
        yield "|---|---|---|---|---|---|"
        for level in sorted(levels, key=lambda name: -float(name.removeprefix("snr_"))):
            for name, figures in levels[level].items():
                yield _noise_row(level.removeprefix("snr_"), networks[name], figures)


def crowther_md(record: Record) -> Iterator[str]:
    """For each network, how many particles are within the angular step that a resolution needs."""
    yield "A particle of diameter D resolved to d needs angular steps of about d / D (Crowther 1970). How many lie"
    yield "within that step of the truth, and to what resolution the median error would blur a particle's rim:"
    yield ""
    shown = record["crowther"]
    for diameter in sorted({entry["diameter_angst"] for entry in shown.values()}, reverse=True):
        entries = {name: entry for name, entry in shown.items() if entry["diameter_angst"] == diameter}
        steps = next(iter(entries.values()))["rows"]
        heads = (f"{row['resolution_angst']:g} Å: {row['step_deg']:.1f}°" for row in steps)
        yield f"| {diameter:.0f} Å across | {' | '.join(heads)} | blur of the median |"
        yield "|---|---|" + "---|" * len(steps)
        for name, entry in entries.items():
            shares = " | ".join(f"{row['within']:.1%}" for row in entry["rows"])
            yield f"| {record['networks'][name]['title']} | {shares} | {entry['allowed_angst']:.0f} Å |"
        yield ""


def reading(row: Record, base: Record) -> str:
    """One line that says what a change did to the share within 20° and to the median, where it is beyond scatter."""
    mine, other = row[row["answer"]], base[base["answer"]]
    gain = mine["within"]["20"] - other["within"]["20"]
    error = math.hypot(mine["within_error"]["20"], other["within_error"]["20"])
    told = f"{100 * gain:+.1f} points, median {other['median_deg']:.1f}° to {mine['median_deg']:.1f}°"
    if abs(gain) < 2 * error or gain == 0:
        return f"no more than tomograms differ ({told}, against “{base['title']}”)"
    return f"{'gains' if gain > 0 else 'loses'} against “{base['title']}”: {told}"


def _parts(counts: Record) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _share(figures: Record, angle: str) -> str:
    return f"{figures['within'][angle]:.1%} ± {figures['within_error'][angle]:.1%}"


def _table_row(row: Record, *, paper: tuple[float, float, float | None] | None) -> str:
    figures = row[row["answer"]]
    printed = "" if paper is None else f"{paper[0]:.2f}, {paper[1]:.2f}" + (f"; {paper[2]:.0%}" if paper[2] else "")
    return (
        f"| {row['title']} | {row['r_squared_training']:.3f} | {row['r_squared']:.3f} | {_share(figures, '20')} "
        f"| {_share(figures, '24.56')} | {figures['median_deg']:.1f}° | {printed} |"
    )


def _ablation_row(row: Record, base: Record | None) -> str:
    figures = row[row["answer"]]
    words = "where it starts" if base is None else reading(row, base)
    return (
        f"| {row['title']} | {row['trained_on']} | {row['r_squared']:.3f} | {_share(figures, '20')} "
        f"| {_share(figures, '24.56')} | {figures['median_deg']:.1f}° | {words} |"
    )


def _noise_row(level: str, row: Record, figures: Record) -> str:
    own = row[row["answer"]]
    lost = 100 * (figures["within"]["20"] - own["within"]["20"])
    return (
        f"| {level} | {row['title']} | {_share(figures, '20')} | {_share(figures, '24.56')} "
        f"| {figures['median_deg']:.1f}° | {lost:+.1f} points against its own test tomograms |"
    )


def _symmetric(record: Record) -> Iterator[str]:
    rows = {name: row for name, row in record["networks"].items() if name.startswith("symmetric-")}
    if not rows:
        return
    code = next(iter(rows.values()))["subject"]
    yield ""
    yield f"| {code} | within 20° | within 24.56° | median | axis, median | spin, median | reading |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows.values():
        figures, base = row[row["answer"]], rows.get(row["against"])
        words = "" if base is None else reading(row, base)
        axes = (f"{figures[key]:.1f}°" if key in figures else "" for key in ("axis_median_deg", "spin_median_deg"))
        yield (
            f"| {row['title']} | {_share(figures, '20')} | {_share(figures, '24.56')} "
            f"| {figures['median_deg']:.1f}° | {' | '.join(axes)} | {words} |"
        )
    chance = record["chance"][code]
    yield f"| a random guess | {chance['20']:.2%} | {chance['24.56']:.2%} | | | | |"
    yield ""
    yield "Errors are the least over the symmetric copies of a pose; axis and spin are those of the main axis."


def _elsewhere(record: Record) -> Iterator[str]:
    found = record["elsewhere"].get("polnet")
    if not found:
        return
    yield ""
    yield "| on other tomograms, never trained on | R² | within 20° | within 24.56° | median | on its own, within 20° |"
    yield "|---|---|---|---|---|---|"
    for name, figures in found.items():
        row = record["networks"][name]
        yield (
            f"| {row['title']} | {figures['r_squared']:.3f} | {_share(figures, '20')} | {_share(figures, '24.56')} "
            f"| {figures['median_deg']:.1f}° | {_share(row[row['answer']], '20')} |"
        )


def _page(lines: Iterator[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
