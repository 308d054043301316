"""Table of a demo: channel and settings, what each view became, a column for each device, and the vote."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.demo_policy import saving


def show(summary: dict, console: Console) -> None:
    """Prints a demo's summary as a table, a column for each device so that it fits a terminal; then the vote."""
    views = summary["views"]
    settings = summary["encoder"] | ({"plan": summary["plan"]} if summary["plan"] else {})
    table = Table(
        title=f"Four views over {_words(summary['channel'])}",
        caption=f"encoder: {_words(settings)}; server: {views[0]['model']}",
    )
    table.add_column()
    for view in views:
        table.add_column(view["device_id"], justify="right", overflow="fold")

    def row(name: str, value: Callable[[dict], str]) -> None:
        table.add_row(name, *(value(view) for view in views))

    row("photo", lambda view: Path(view["photo"]).name)
    if views[0]["view"]:
        row("viewpoint", lambda view: str(view["view"]))
    row("header bits", lambda view: f"{view['header_bits']:,}")
    row("payload bits", lambda view: f"{view['payload_bits']:,}")
    row("bits on air", lambda view: f"{view['bits_on_air']['uplink']:,}")
    if any(view["why"] for view in views):
        row("bits back", lambda view: f"{view['bits_on_air']['downlink']:,}")
        row("picture", _picture)
        row("why", lambda view: view["why"])
    row("ρ", lambda view: f"{view['rho']:.4f}")
    row("true ratio", lambda view: f"{view['true_ratio']:.4f}")
    row("bits flipped", lambda view: f"{view['bits_flipped']:,}")
    row("flips in %", lambda view: f"{100 * view['bits_flipped'] / max(view['payload_bits'], 1):#.3g}")
    if all(view["channel_uses"] for view in views):
        row("symbols on air", lambda view: f"{view['channel_uses']:,}")
    if any(view["segments_lost"] and not view["transmission"] for view in views):
        row("segments lost", lambda view: str(view["segments_lost"]))
    if all(view["transmission"] for view in views):
        _show_transmission([view["transmission"] for view in views], table)
    table.add_section()
    row("undamaged", lambda view: view["undamaged"]["name"])
    row("its confidence", lambda view: f"{view['undamaged']['confidence']:.3f}")
    table.add_section()
    row("top-1", lambda view: view["top1"]["name"])
    row("confidence", lambda view: f"{view['top1']['confidence']:.3f}")
    table.add_section()
    for step in ("attention", "encode", "channel", "server"):
        if all(view["timings_ms"][step] is not None for view in views):  # some coders take no attention
            table.add_row(f"{step} ms", *(f"{view['timings_ms'][step]:.1f}" for view in views))
    console.print(table)
    if late := [view["transmission"] for view in views if (view["transmission"] or {}).get("exceeds_coherence")]:
        console.print(
            f"{len(late)} of {len(views)} views are on the air for longer than {late[0]['coherence_ms']:.3g} ms, "
            "for which the channel that their plans are for would stay as it is."
        )
    vote = summary["vote"]
    counted = f"{vote['votes']} of {vote['views']} views"
    console.print(saving(views))
    console.print(f"Vote: [bold]{vote['name']}[/] (class {vote['label']}), {counted}")
    if fused := vote["fused"]:
        console.print(f"Likeliest by all views together: {fused['name']}, {fused['confidence']:.2f}")


def _picture(view: dict) -> str:
    """The picture that followed an opinion: its bytes, and the side that was wished for."""
    if len(view["layers"]) == 1:
        return "none"
    last = view["layers"][-1]
    wished = f" at {last['wish']['side']}" if last["wish"] else ""
    return f"{last['bits'] // 8:,} B{wished}"


def _words(settings: dict) -> str:
    """Settings in words; those that are not set are left out."""
    named = {name: value for name, value in settings.items() if value is not None and name != "impairment"}
    words = [f"{name} {str(value).lower() if isinstance(value, bool) else value}" for name, value in named.items()]
    return ", ".join([settings["impairment"], *words] if "impairment" in settings else words)


def _show_transmission(sent: list[dict], table: Table) -> None:
    """Rows of what the plan spent, and when the blocks were done."""

    def row(name: str, key: str, form: str) -> None:
        values = (each[key] for each in sent)
        table.add_row(name, *("∞" if value is None else format(value, form) for value in values))

    table.add_section()
    row("plan", "plan", "")
    row("power", "power", ",.1f")
    row("T_d ms", "t_d_ms", ".3f")
    row("on air ms", "air_ms", ".3f")
    row("coherence ms", "coherence_ms", ".3f")
    row("blocks lost", "blocks_lost", "d")
