// Knobs: a control for every setting that the studio describes, shown where it has an effect; symbol, unit, equation.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { state, set, turn, turnChannel } from "./store.js";

const WAIT_MS = 90;

export function Knobs({ knobs, settings, channel, presets, scope, names }) {
  return html`<aside class="panel knobs" aria-label="knobs">
    <h2>Knobs</h2>
    ${knobs.groups.map((group) => html`<details open key=${group.name}><summary>${group.name}</summary>
      ${group.knobs.filter((knob) => isShown(knob, settings, channel, knobs)).map((knob) => html`
        <${Knob} key=${knob.name} knob=${knob} value=${settings[knob.name]} turn=${(value) => turn({ [knob.name]: value })} />`)}
    </details>`)}
    <${Channel} knobs=${knobs} channel=${channel} presets=${presets} scope=${scope} names=${names} />
  </aside>`;
}

// As semlink.parameters.Only has it: all of its conditions hold, each by itself or by its other company.
function holds(only, settings) {
  if (only.otherwise && holds(only.otherwise, settings)) return true;
  const value = settings[only.other];
  return only.values.length ? only.values.includes(value) : Boolean(value);
}

function isShown(knob, settings, channel, knobs) {
  if (knob.name === "running") return false;
  if (knob.plans_only && !takesPlan(channel, knobs)) return false;
  return knob.only.every((only) => holds(only, settings));
}

function takesPlan(channel, knobs) {
  const met = channel.impairments;
  const types = met ? [met.default, ...Object.values(met.devices)].map((each) => each.type) : [];
  return knobs.channels.some((each) => each.takes_plan && types.includes(each.type));
}

function Channel({ knobs, channel, presets, scope, names }) {
  const met = channel.impairments;
  if (!met) return html`<details open><summary>Channel</summary><p class="quiet">the emulator has not answered yet</p></details>`;
  const own = met.devices[scope];
  const current = own ?? met.default;
  const kind = knobs.channels.find((each) => each.type === current.type);
  const choose = (type) => turnChannel(toType(knobs.channels.find((each) => each.type === type), current));
  return html`<details open><summary>Channel</summary>
    <div class="presets" role="group" aria-label="presets">${presets.map((preset) => html`
      <button type="button" key=${preset.name} title=${preset.description} data-testid="preset-${preset.name}"
        onClick=${() => turnChannel({ preset: preset.name })}>${preset.name}</button>`)}</div>
    <label class="knob"><span>for</span>
      <select data-testid="scope" value=${scope} onChange=${(event) => set({ scope: event.target.value })}>
        <option value="default">all cameras</option>${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select></label>
    <label class="knob"><span>channel</span>
      <select data-testid="channel" value=${current.type} title=${kind?.help} onChange=${(event) => choose(event.target.value)}>
        ${knobs.channels.map((each) => html`<option key=${each.type} value=${each.type}>${each.type.replaceAll("_", "-")}</option>`)}
      </select></label>
    <p class="quiet">${kind?.help}</p>
    ${(kind?.knobs ?? []).filter((knob) => knob.only.every((only) => holds(only, current))).map((knob) => html`
      <${Knob} key=${kind.type + knob.name} knob=${knob} value=${current[knob.name]} turn=${(value) => turnChannel({ [knob.name]: value })} />`)}
    ${own && html`<button type="button" onClick=${() => turnChannel(null)}>${scope} meets what all do</button>`}
  </details>`;
}

// Another type keeps what it has in common with the one before, and has its defaults besides.
function toType(kind, current) {
  const changes = { type: kind.type };
  for (const knob of kind.knobs) {
    const isKept = knob.name in current && (!knob.choices.length || knob.choices.includes(current[knob.name]));
    if (!isKept) changes[knob.name] = knob.default;
  }
  return changes;
}

export function Knob({ knob, value, turn }) {
  const [isOpen, open] = useState(false);
  const id = `knob-${knob.testid}`;
  return html`<div class="knob">
    <label for=${id}>${knob.label} ${knob.symbol && html`<i>${knob.symbol}</i>`}</label>
    <${Control} id=${id} knob=${knob} value=${value} turn=${turn} />
    <button type="button" class="what" aria-expanded=${isOpen} aria-label="about ${knob.label}" onClick=${() => open(!isOpen)}>?</button>
    ${isOpen && html`<div class="about"><p>${knob.help}</p>
      ${knob.equation && html`<math display="block" dangerouslySetInnerHTML=${{ __html: knob.equation }}></math>`}
      ${knob.from && html`<p class="quiet">${knob.from}</p>`}</div>`}
  </div>`;
}

function Control({ id, knob, value, turn }) {
  if (knob.kind === "choice") {
    return html`<select id=${id} data-testid=${knob.testid} value=${String(value ?? "")} onChange=${(event) => turn(chosen(knob, event.target.value))}>
      ${knob.may_be_none && html`<option value="">as it suits</option>`}
      ${knob.choices.map((each) => html`<option key=${each} value=${String(each)}>${String(each)}</option>`)}
    </select>`;
  }
  if (knob.kind === "flag") {
    return html`<input id=${id} type="checkbox" data-testid=${knob.testid} checked=${Boolean(value)} onChange=${(event) => turn(event.target.checked)} />`;
  }
  return html`<${Numeric} id=${id} knob=${knob} value=${value} turn=${turn} />`;
}

const chosen = (knob, text) => (text === "" ? null : knob.choices.find((each) => String(each) === text));

function Numeric({ id, knob, value, turn }) {
  const field = useRef();
  const waiting = useRef(0);
  const [draft, setDraft] = useState(null); // what is being typed
  useEffect(() => () => clearTimeout(waiting.current), []);
  const give = (text) => {
    setDraft(text);
    clearTimeout(waiting.current);
    const number = text === "" && knob.may_be_none ? null : Number(text);
    if (number !== null && (text === "" || !Number.isFinite(number))) return;
    waiting.current = setTimeout(() => turn(number), WAIT_MS);
  };
  const isBounded = knob.low !== null && knob.high !== null && knob.high - knob.low <= 1e5;
  const now = draft ?? value ?? "";
  return html`<span class="numeric">
    ${isBounded && html`<input type="range" min="0" max="1000" aria-label="${knob.label}, slider" data-testid="${knob.testid}-slider"
      value=${toSlider(knob, value ?? knob.low)} onInput=${(event) => give(String(fromSlider(knob, Number(event.target.value))))}
      onChange=${() => setDraft(null)} />`}
    <input id=${id} ref=${field} type="number" data-testid=${knob.testid} min=${knob.low} max=${knob.high} step=${knob.kind === "whole" ? 1 : "any"}
      placeholder=${knob.may_be_none ? "none" : ""} value=${now} onInput=${(event) => give(event.target.value)} onBlur=${() => setDraft(null)} />
    <span class="unit">${knob.unit}</span></span>`;
}

// Rates of errors matter most near 0: there the slider is finer.
const isRate = (knob) => knob.low === 0 && knob.high <= 1 && /ber|bler|loss|error/.test(knob.name);

function toSlider(knob, value) {
  const at = (value - knob.low) / (knob.high - knob.low);
  return Math.round(1000 * (isRate(knob) ? Math.cbrt(at) : at));
}

function fromSlider(knob, slider) {
  const at = isRate(knob) ? (slider / 1000) ** 3 : slider / 1000;
  const value = knob.low + at * (knob.high - knob.low);
  return knob.kind === "whole" ? Math.round(value) : Number(value.toPrecision(3));
}
