"""The tables of docs/serving.md from what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tools.load.client import PERCENTILES

Results = Mapping[str, Any]


def markdown(results: Results) -> str:
    """All tables for which there are figures."""
    parts = [_machine(results["machine"])]
    held = {name.removeprefix("held "): part for name, part in results.items() if name.startswith("held ")}
    if held:
        parts += [list(_held(held))]
    soaks = {name.removeprefix("soak "): part for name, part in results.items() if name.startswith("soak ")}
    if soaks or "connects" in results:
        parts += [list(_long(soaks, results.get("connects")))]
    for name, part in results.items():
        if name.startswith("faults ") and "error" not in part:
            parts += [list(_faults(name.removeprefix("faults "), part))]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _machine(machine: Results) -> list[str]:
    cores = f"on cores {machine['server_cores']}" if machine["server_cores"] else "on all of them"
    return [
        f"{machine['processor']}, {machine['cores']} cores, the server {cores}, clients on the same machine; "
        f"lipwright {machine['lipwright']}, {machine['date']}."
    ]


def _held(held: Mapping[str, Results]) -> Iterator[str]:
    yield "| quality | sessions held at 25 pictures a second | server's own count | sound to frame ms p50 | p95 | p99 |"
    yield "|---|---|---|---|---|---|"
    for quality, part in held.items():
        if "error" in part:
            yield f"| {quality} | {part['error']} | | | | |"
            continue
        at_load = next((step for step in part["steps"] if step["sessions"] == part["held"]), part["steps"][0])
        yield f"| {quality} | {part['held']} | {part['server_says']} | {_latencies(at_load)} |"


def _latencies(step: Results) -> str:
    return " | ".join("-" if math.isnan(step["latency_ms"][p]) else f"{step['latency_ms'][p]:.0f}" for p in PERCENTILES)


def _long(soaks: Mapping[str, Results], connects: Results | None) -> Iterator[str]:
    yield "| what | memory MiB | files | threads | pictures a second, the slowest | frames that never came |"
    yield "|---|---|---|---|---|---|"
    for quality, soak in soaks.items():
        if "error" in soak:
            yield f"| soak, {quality} | {soak['error']} | | | | |"
            continue
        rows = soak["minutes"]
        first, last = rows[min(1, len(rows) - 1)], rows[-1]  # the first minute fills caches
        slowest, lost = min(row["pictures_a_second"] for row in rows), sum(row["missing"] for row in rows)
        yield (
            f"| {len(rows)} minutes of {soak['sessions']} speaking ({quality}) | {_change(first, last)} | "
            f"{slowest:.1f} | {lost} |"
        )
    if connects and "error" not in connects:
        change = _change(connects["before"], connects["after"])
        yield f"| {connects['count']} connects and disconnects in {connects['seconds']:.0f} s | {change} | | |"


def _change(before: Results, after: Results) -> str:
    return (
        f"{before['memory_mib']:.0f} -> {after['memory_mib']:.0f} | {before['files']} -> {after['files']} | "
        f"{before['threads']} -> {after['threads']}"
    )


def _faults(quality: str, faults: Mapping[str, Results]) -> Iterator[str]:
    yield (
        f"| what happens ({quality}) | others: frames missing | pictures missing | longest gap ms | freed after s | "
        "memory MiB | files | threads | answers |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, fault in faults.items():
        freed = "" if fault["freed_seconds"] is None else f"{fault['freed_seconds']:.1f}"
        answers = ", ".join(f"{count} x {answer}" for answer, count in fault["answers"].items())
        yield (
            f"| {name} | {fault['missing']} of {fault['frames']} | {max(fault['undrawn'], 0)} | "
            f"{fault['longest_gap_ms']:.0f} | {freed} | {_change(fault['before'], fault['after'])} | {answers} |"
        )
