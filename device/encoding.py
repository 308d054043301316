"""Settings of an encoder: the source coder by its name, and those that the coders declare themselves."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from semlink.access.load_planner import LOAD_METHODS
from semlink.access.planner import PlanMethod
from semlink.channel.plan import MIN_BITS
from semlink.parameters import Notation
from semlink.service.applicability import Applicable
from semlink.service.declared import declared_fields, with_fields
from semlink.source.registry import SourceCoder, source_coder, source_coders

START = "iaq"
"""Source coder where none is named."""
LOOKING = tuple(coder.flag for coder in source_coders() if coder.takes != "pixels")
"""Source coders that a vision transformer looks for."""
PLANNING = ("iaq",)
"""Source coders whose bits a transmission plan chooses; frames of the others are planned as they are."""
IDEAL = Notation(
    "B, P",
    "",
    "min_(B, P) y + E_Q, (D B_i)/(Δf log_2(1 + γ_i)) ≤ y, γ_i = (P_i λ_i^2)/σ^2\n"
    "E_Q = ∑_i I_i D (u_max - u_min)^2/4 4^(-B_i)",
    "IA-QSMPA, equations (11), (12) and (14): y is the time of the slowest of G blocks, of D values each",
)
"""Of plans."""
_LOAD_METHODS = f"{', '.join(LOAD_METHODS[:-1])} or {LOAD_METHODS[-1]}"


def source_fields() -> dict[str, Any]:
    """Fields of settings, by their names: `source`, and every setting of every source coder.

    Raises:
        ValueError: two coders declare one flag in different ways.
    """
    declared = {coder.flag: coder.settings for coder in source_coders()}
    summaries = "; ".join(f"{coder.flag}: {_summary(coder)}" for coder in source_coders())
    named = Field(START, description=f"the source coder, which makes frames of pictures; {summaries}")
    return {"source": (Literal[tuple(declared)], named)} | declared_fields("source", declared)


def _summary(coder: SourceCoder) -> str:
    return (coder.encode.__doc__ or "").partition("\n")[0].rstrip(".")


@with_fields(source_fields)
class EncoderSettings(Applicable):
    """Settings that decide what is sent of a picture; also those of `semlink encode` and `semlink demo`."""

    source: str = START
    plan: Annotated[PlanMethod | None, IDEAL] = Field(
        None,
        description="plan subchannels and power of every frame for the channel it will meet, if that takes plans "
        "(mimo-ofdm, finite-blocklength); see semlink plan --help. Of iaq also the bits, which at --rho stand "
        f"instead of --method's; the bits of other coders are as they are, and the method is {_LOAD_METHODS}",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        coding = self.coding
        self.coder.check_settings(coding)
        if self.plan is None:
            return self
        if self.source not in PLANNING:
            if self.plan not in LOAD_METHODS:
                raise ValueError(
                    f"--plan (or SEMLINK_PLAN) {self.plan} chooses bits, which frames of --source {self.source} "
                    f"have already: take {_LOAD_METHODS}"
                )
            return self
        if coding["total_bits"] is not None:
            raise ValueError("--plan (or SEMLINK_PLAN) keeps to --rho: leave --total-bits out")
        if coding["rho"] < MIN_BITS / 8:
            raise ValueError(
                f"--plan (or SEMLINK_PLAN) needs --rho of {MIN_BITS / 8} or more, not {coding['rho']}"
            )
        return self

    @property
    def coder(self) -> SourceCoder:
        """The source coder."""
        return source_coder(self.source.replace("-", "_"))

    @property
    def coding(self) -> dict[str, Any]:
        """Keyword arguments of the coder's `encode`."""
        return {each.name: getattr(self, each.flag) for each in self.coder.settings}

    @property
    def planned_rho(self) -> float | None:
        """Compression ratio that a plan's bits keep to; None where frames are planned as they are."""
        return self.coding["rho"] if self.source in PLANNING else None
