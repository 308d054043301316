// Then and now: what a past round was sent with that differs from what is set.

import { namesOf } from "./camera.js";

const OF_THE_MOMENT = ["running", "frozen", "every", "seed", "noise"]; // no picture follows, or the round is told with it

export function differences(round, { knobs, settings, impairments }) {
  const every = knobs.groups.flatMap((group) => group.knobs).filter((knob) => !OF_THE_MOMENT.includes(knob.name));
  const set = every.filter((knob) => round.settings[knob.name] !== settings[knob.name]).map((knob) => told(knob, round.settings[knob.name]));
  const over = round.impairments && impairments ? channels(namesOf(round.settings.cameras), knobs, round.impairments, impairments) : [];
  const parts = [set.length && `with ${set.join(", ")}`, over.length && `over ${over.join(", ")}`].filter(Boolean);
  return parts.length ? `Unlike what is set now, it was sent ${parts.join(", ")}.` : "It was sent with what is set now.";
}

const told = (knob, value) => `${symbol(knob.symbol) || knob.label} ${value ?? "as it suits"}${knob.unit && value !== null ? ` ${knob.unit}` : ""}`;

// Text of a symbol, as of ρ; a word where it is no single one.
function symbol([element]) {
  return element?.length === 2 && typeof element[1] === "string" ? element[1] : "";
}

// What cameras met that they would not meet now; one alone for all of them, if it was the same.
function channels(names, knobs, then, now) {
  const of = (impairments, name) => impairments.devices[name] ?? impairments.default;
  const changed = names.filter((name) => !isSame(of(then, name), of(now, name)));
  const found = changed.map((name) => channel(knobs, of(then, name), of(now, name)));
  const isOne = changed.length === names.length && new Set(found).size === 1;
  return isOne ? found.slice(0, 1) : found.map((text, at) => `${text} for ${changed[at]}`);
}

const isSame = (one, other) => Object.keys({ ...one, ...other }).every((name) => one[name] === other[name]);

function channel(knobs, then, now) {
  const known = knobs.channels.find((each) => each.type === then.type)?.knobs ?? [];
  const isTold = (knob) => then[knob.name] !== (now.type === then.type ? now : { [knob.name]: knob.default })[knob.name];
  return [then.type.replaceAll("_", "-"), ...known.filter(isTold).map((knob) => told(knob, then[knob.name]))].join(" ");
}
