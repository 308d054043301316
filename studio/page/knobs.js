// Knobs: a control for every setting that the studio describes, shown where it has an effect.

import { html } from "./vendor/htm-preact.js";
import { Knob, prose } from "./knob.js";
import { set, turn, turnChannel } from "./store.js";

export function Knobs({ knobs, settings, channel, presets, scope, names }) {
  const over = met(channel, names).flatMap((facts) => facts.over);
  const isOver = (knob) => !knob.over || over.includes(knob.over);
  const every = knobs.groups.flatMap((group) => group.knobs);
  // What the channel leaves without effect is to the others as if it were not set.
  const effective = { ...settings, ...Object.fromEntries(every.filter((knob) => !isOver(knob)).map((knob) => [knob.name, knob.default])) };
  const isShown = (knob) => knob.name !== "running" && isOver(knob) && knob.only.every((only) => holds(only, effective));
  return html`<aside class="panel knobs" aria-label="knobs" tabindex="-1">
    <h2>Knobs</h2>
    ${knobs.groups.map((group) => html`<details open key=${group.name}><summary>${group.name}</summary>
      ${group.knobs.filter(isShown).map((knob) => html`
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

// Facts of the channels that the cameras meet.
function met({ facts }, names) {
  return facts ? names.map((name) => facts.devices[name] ?? facts.default) : [];
}

function Channel({ knobs, channel, presets, scope, names }) {
  const { impairments, facts } = channel;
  if (!impairments) return html`<details open><summary>Channel</summary><p class="quiet">the emulator has not answered yet</p></details>`;
  const own = names.filter((name) => impairments.devices[name]); // cameras that meet another channel than all others
  const current = impairments.devices[scope] ?? impairments.default;
  const idle = (facts?.devices[scope] ?? facts?.default)?.idle ?? [];
  const kind = knobs.channels.find((each) => each.type === current.type);
  const choose = async ({ target }) => {
    if (await turnChannel(toType(knobs.channels.find((each) => each.type === target.value), current))) target.value = current.type;
  };
  return html`<details open><summary>Channel</summary>
    <label class="knob"><span>for</span>
      <select data-testid="scope" value=${scope} onChange=${(event) => set({ scope: event.target.value })}>
        <option value="default">${own.length ? "all other cameras" : "all cameras"}</option>${names.map((name) => html`
          <option key=${name} value=${name}>${own.includes(name) ? `${name} (its own)` : name}</option>`)}
      </select></label>
    ${own.filter((name) => scope === "default" || scope === name).map((name) => html`<p key=${name} class="own">
      <span class="quiet">${name} meets a channel of its own: ${named(impairments.devices[name].type)}</span>
      <button type="button" onClick=${() => turnChannel(null, name)}>${name} meets what all do</button></p>`)}
    <div class="presets" role="group" aria-label="presets">${presets.map((preset) => html`
      <button type="button" key=${preset.name} title=${preset.description} data-testid="preset-${preset.name}"
        onClick=${() => turnChannel({ preset: preset.name })}>${preset.name}</button>`)}</div>
    <label class="knob"><span>channel</span>
      <select data-testid="channel" value=${current.type} onChange=${choose}>
        ${knobs.channels.map((each) => html`<option key=${each.type} value=${each.type}>${named(each.type)}</option>`)}
      </select></label>
    <p class="quiet">${prose(kind?.help ?? "")}</p>
    ${(kind?.knobs ?? []).filter((knob) => !idle.includes(knob.name)).map((knob) => html`
      <${Knob} key=${kind.type + scope + knob.name} knob=${knob} value=${current[knob.name]} turn=${(value) => turnChannel({ [knob.name]: value })} />`)}
  </details>`;
}

const named = (type) => type.replaceAll("_", "-");

// Another type keeps what it has in common with the one before, and has its defaults besides.
function toType(kind, current) {
  const changes = { type: kind.type };
  for (const knob of kind.knobs) {
    const isKept = knob.name in current && (!knob.choices.length || knob.choices.includes(current[knob.name]));
    if (!isKept) changes[knob.name] = knob.default;
  }
  return changes;
}
