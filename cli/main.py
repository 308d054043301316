"""Command `semlink`: its subcommands, in the order of its help."""

from importlib.metadata import version
from typing import Annotated

import typer

from cli.calibration import calibrate
from cli.channel import channel_command
from cli.classify import classify
from cli.comparison import compare
from cli.demo import demo
from cli.evaluation import evaluate, unpack
from cli.frames import decode, encode
from cli.from_settings import WithLists
from cli.learned_channel_training import train_learned_channel
from cli.learned_training import train_learned_source
from cli.plan import plan_command
from cli.training import link_train, train, train_decoder, train_received
from semlink.service.logs import configure_logs
from semlink.service.settings import ProcessSettings, read_settings

app = typer.Typer(
    help="A semantic image link: cameras send the patches that matter, a server still knows what it sees.",
    no_args_is_help=True,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"semlink {version('semlink')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version, and no more."),
    ] = False,
) -> None:
    pass


app.command(cls=WithLists)(demo)
app.command()(compare)
app.command()(encode)
app.command()(decode)
app.command(name="channel")(channel_command)
app.command(cls=WithLists)(classify)
app.command()(train)
app.command()(link_train)
app.command()(train_learned_channel)
app.command()(train_decoder)
app.command()(train_received)
app.command()(train_learned_source)
app.command(cls=WithLists)(evaluate)
app.command()(unpack)
app.command()(calibrate)
app.command(name="plan")(plan_command)


def main() -> None:
    """The console command; its logs go to standard error, as the processes' do."""
    configure_logs(read_settings(ProcessSettings, "semlink", []), "semlink")
    app()
