// Arithmetic of one patch: from its attention over weight and bits to what arrived, every equation with its numbers.

import { html } from "./vendor/htm-preact.js";
import { viewIn } from "./camera.js";
import { meanPower, placeOf } from "./maps.js";
import { bits, short, whole } from "./numbers.js";
import { set } from "./store.js";

export function Arithmetic({ pinned, round }) {
  const { name, patch, opener } = pinned;
  const { view } = viewIn(round, name);
  const maps = view?.maps ?? {};
  const of = (key) => maps[key]?.[patch];
  const close = () => {
    opener.focus();
    set({ pinned: null });
  };
  return html`<section class="panel arithmetic" data-testid="arithmetic" aria-label="arithmetic of a patch"
    onKeyDown=${(event) => event.key === "Escape" && close()}>
    <header><h2>${name}, ${placeOf(patch)}: from attention to what arrived</h2>
      <button type="button" aria-label="close the arithmetic" onClick=${close}>✕</button></header>
    ${view ? html`<ol class="steps">
      ${maps.attention && html`<${Attention} values=${maps.attention} own=${of("attention")} />`}
      ${maps.spent && html`<${Weight} values=${maps.attention} own=${of("attention")} weight=${of("weight")} gamma=${view.transmission ? 1 : view.settings.gamma} />
        <${Bits} of=${of} method=${view.transmission ? `plan's method ${view.transmission.plan}` : `method ${view.settings.method}`} />
        <${Quantizer} given=${of("bits")} ...${view.quantizer} />`}
      ${maps.bits && html`<${Air} of=${of} values=${view.quantizer?.values ?? 1} maps=${maps} />`}
      ${maps.error && html`<${Arrived} error=${of("error")} bound=${of("bound")} />`}
    </ol>` : html`<p class="quiet">no view in this round</p>`}
  </section>`;
}

function Step({ title, from, children }) {
  return html`<li><h3>${title}</h3>${children}<p class="quiet">${from}</p></li>`;
}

function Attention({ values, own }) {
  const rank = 1 + values.filter((value) => value > own).length;
  return html`<${Step} title="attention" from="IAQ, equations (3) and (4)">
    <p><i>a</i> = <b>${short(own)}</b>, the class token's attention on the patch, mean of the last block's heads; number ${rank} of ${values.length}</p><//>`;
}

function Weight({ values, own, weight, gamma }) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return html`<${Step} title="weight" from="IAQ, equation (31); d, the floor, is next to nothing">
    <p><i>w</i> = (1 − d) · ((<i>a</i> − <i>a</i><sub>min</sub>) / (<i>a</i><sub>max</sub> − <i>a</i><sub>min</sub>))<sup>γ</sup> + d
      = ((${short(own)} − ${short(least)}) / (${short(most)} − ${short(least)}))<sup>${short(gamma)}</sup> = <b>${short(weight)}</b></p><//>`;
}

function Bits({ of, method }) {
  const given = of("bits");
  return html`<${Step} title="bits" from="IAQ, equation (21), summed over the patch's values and weighed">
    <p><i>M</i> = <b>${bits(given)}</b> a value, by the ${method}.
      ${given ? html` The last of them lessens <i>w</i> · Σ <i>D</i> by ${short(of("spent"))}` : html` None was worth its place`}; one more would by ${short(of("gain"))} squared grey levels.</p><//>`;
}

function Quantizer({ given, low, high, values }) {
  const step = (high - low) / 2 ** given;
  return html`<${Step} title="quantizer" from="IAQ, Section II; u_min and u_max are those of the picture">
    <p>Δ = (<i>u</i><sub>max</sub> − <i>u</i><sub>min</sub>) / 2<sup><i>M</i></sup> = (${high} − ${low}) / ${2 ** given} = <b>${short(step)}</b> grey levels; ${whole(values)} values · ${given} bit = <b>${bits(values * given)}</b> of payload</p><//>`;
}

function Air({ of, values, maps }) {
  const sent = of("bits") * values;
  const flips = of("flips");
  const flipped = flips === undefined ? html`of ${whole(sent)} bit it is not known which arrived inverted`
    : html`<b>${bits(flips)}</b> of ${whole(sent)} arrived inverted${sent ? `, a share of ${short(flips / sent)}` : ""}`;
  return html`<${Step} title="on the air" from="counted: what was sent beside what arrived">
    <p>${of("lost") ? html`<b>lost</b>: nothing of it arrived` : flipped}
      ${of("subchannels") !== undefined && html`; ${whole(of("subchannels"))} subchannels, power ${short(of("power"))} each, of a mean of ${short(meanPower(maps))}, ${short(of("air_ms"))} ms`}</p><//>`;
}

function Arrived({ error, bound }) {
  return html`<${Step} title="arrived" from="measured on the pixels; the bound is of one value with at most one inverted bit, (21)">
    <p>root of the mean squared error <b>${short(Math.sqrt(error))}</b> grey levels${bound === undefined ? "" : html`; √<i>D</i> = ${short(Math.sqrt(bound))}`}</p><//>`;
}
