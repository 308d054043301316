"""What the demo's table says of channel, settings, flips, undamaged answers and coherence."""

import io

from rich.console import Console

from cli.demo_table import show


def view(number, **transmission):
    return {
        "device_id": f"device-{number}", "photo": "cat.png", "view": number, "model": "a model",
        "header_bits": 904, "payload_bits": 2000, "rho": 0.25, "true_ratio": 0.26, "bits_flipped": 25,
        "segments_lost": 0, "channel_uses": None, "why": None, "bits_on_air": {"uplink": 2904, "downlink": 8},
        "layers": [{"layer": 0, "bits": 2904, "wish": None}],
        "undamaged": {"name": "tabby", "confidence": 0.75}, "top1": {"name": "lynx", "confidence": 0.5},
        "timings_ms": {"attention": 1, "encode": 1, "channel": 1, "server": 1},
        "transmission": transmission or None,
    }  # fmt: skip


def shown(views, channel, encoder, plan=None):
    summary = {
        "views": views, "vote": {"name": "lynx", "label": 287, "votes": 4, "views": 4, "fused": None},
        "channel": channel, "encoder": encoder, "plan": plan,
    }  # fmt: skip
    console = Console(width=80, record=True, file=io.StringIO())
    show(summary, console)
    return console.export_text()


def test_it_names_channel_settings_flips_and_the_undamaged_answers():
    text = shown(
        [view(number) for number in range(1, 5)],
        {"impairment": "bsc", "ber": 0.0125, "seed": 7},
        {"source": "iaq", "method": "incremental", "rho": 0.25, "total_bits": None},
    )
    assert "Four views over bsc, ber 0.0125, seed 7" in text
    assert "encoder: source iaq, method incremental, rho 0.25; server: a model" in " ".join(text.split())
    rows = {line.strip("│").split("│")[0].strip(): line for line in text.splitlines()}
    assert "1.25" in rows["flips in %"]
    assert "tabby" in rows["undamaged"]
    assert "0.750" in rows["its confidence"]
    assert "lynx" in rows["top-1"]
    assert "stay as it is" not in text


def test_it_names_symbols_and_lost_segments_where_there_are_some():
    views = [
        view(number) | {"segments_lost": number - 1, "channel_uses": 18_000 + number} for number in range(1, 5)
    ]
    text = shown(views, {"impairment": "awgn", "access": "ldpc-qam"}, {"source": "iaq"})
    rows = {line.strip("│").split("│")[0].strip(): line for line in text.splitlines()}
    assert [cell.strip() for cell in rows["symbols on air"].strip("│").split("│")[1:]] == [
        "18,001", "18,002", "18,003", "18,004"
    ]  # fmt: skip
    assert [cell.strip() for cell in rows["segments lost"].strip("│").split("│")[1:]] == ["0", "1", "2", "3"]
    plain = shown([view(number) for number in range(1, 5)], {"impairment": "bsc"}, {"source": "iaq"})
    assert "symbols on air" not in plain
    assert "segments lost" not in plain


def test_it_says_which_views_exceed_coherence():
    sent = {
        "plan": "fixed",
        "power": 3136.0,
        "t_d_ms": 5.0,
        "air_ms": 5.0,
        "coherence_ms": 10 / 3,
        "blocks_lost": 0,
    }
    views = [view(number, **sent, exceeds_coherence=number > 1) for number in range(1, 5)]
    text = " ".join(shown(views, {"impairment": "mimo-ofdm", "pace": True}, {"rho": 0.25}, "fixed").split())
    assert "Four views over mimo-ofdm, pace true" in text
    assert "encoder: rho 0.25, plan fixed" in text
    assert "3 of 4 views are on the air for longer than 3.33 ms, for which the channel" in text
