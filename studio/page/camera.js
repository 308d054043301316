// Camera tile: what one camera saw, sent, and what arrived; what the server takes it for, the bits and the time it took.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { bitmap } from "./images.js";
import { draw, gradient, GRID, largest, PANELS, SIDE } from "./maps.js";
import { bits, ms, percent, share, short, whole } from "./numbers.js";
import { set, state } from "./store.js";

const STAGES = ["attention", "encode", "plan", "channel", "network", "decode", "queue", "inference"];

export function Camera({ name, process, round, patch, panels, opacity }) {
  const failure = round?.failures[name];
  const isStale = round && !round.is_over && !failure && !round.views[name];
  const view = isStale ? round.stale?.views[name] : round?.views[name];
  const standing = process?.standing ?? "starting";
  return html`<article class="tile ${isStale ? "stale" : ""}" data-testid=${name} data-round=${view?.round}
    aria-label=${name}>
    <header>
      <h3>${name}</h3>
      <${Standing} standing=${standing} why=${process?.why} />
      ${view && html`<span class="top1"><b>${view.top1.name}</b> ${share(view.top1.confidence)}</span>`}
    </header>
    ${failure && html`<p class="failure" role="status">${failure}</p>`}
    ${view && html`
      <div class="panels">
        ${Object.keys(PANELS).filter((key) => panels[key]).map(
          (key) => html`<${Panel} key=${key} name=${name} kind=${key} view=${view} patch=${patch} opacity=${opacity} />`,
        )}
      </div>
      <${Patch} view=${view} patch=${patch} />
      <${Classes} found=${view.predictions} />
      <${Bits} view=${view} />
      <${Stages} stages=${view.stages_ms} />`}
    ${!view && !failure && html`<p class="quiet">${standing === "ready" ? "no view in this round" : "waits for its camera"}</p>`}
  </article>`;
}

export function Standing({ standing, why }) {
  const signs = { ready: "●", starting: "◐", silent: "○", ended: "✕" };
  return html`<span class="standing ${standing}"><span aria-hidden="true">${signs[standing]}</span> ${standing}${why ? `: ${why}` : ""}</span>`;
}

function Panel({ name, kind, view, patch, opacity }) {
  const panel = PANELS[kind];
  const canvas = useRef();
  const digest = view.images[panel.image];
  const values = panel.map ? view.maps[panel.map] : null;
  const isMissing = !digest || (panel.map && !values);
  useEffect(() => {
    let isCurrent = true;
    if (isMissing) return draw(canvas.current, null);
    bitmap(digest).then((image) => isCurrent && draw(canvas.current, image, panel, values, opacity), () => {});
    return () => { isCurrent = false; };
  }, [digest, values, opacity]);
  const most = values ? largest(values) : 0;
  return html`<figure>
    <div class="canvas" tabindex="0" role="img" aria-label="${panel.name} of ${name}"
      onPointerMove=${(event) => set({ patch: under(event) })} onPointerLeave=${() => set({ patch: null })}
      onKeyDown=${(event) => move(event)} onBlur=${() => set({ patch: null })}>
      <canvas ref=${canvas} width=${SIDE} height=${SIDE}></canvas>
      ${patch !== null && html`<span class="patch" style=${at(patch)}></span>`}
    </div>
    <figcaption>${panel.name}${panel.symbol && html` <i>${panel.symbol}</i>`}
      ${values && html`<span class="scale"><span>0</span><span class="colours" style=${{ backgroundImage: gradient(panel.colours) }}></span><span>${short(most)} ${panel.unit}</span></span>`}
      ${isMissing && html`<span class="quiet">none</span>`}
    </figcaption>
  </figure>`;
}

function under(event) {
  const box = event.currentTarget.getBoundingClientRect();
  const [column, row] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map(
    (value) => Math.min(GRID - 1, Math.max(0, Math.floor(GRID * value))),
  );
  return GRID * row + column;
}

function move(event) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -GRID, ArrowDown: GRID };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const next = state.patch === null ? 0 : state.patch + steps[event.key];
  if (next >= 0 && next < GRID * GRID) set({ patch: next });
}

function at(patch) {
  return { left: `${(100 * (patch % GRID)) / GRID}%`, top: `${(100 * Math.floor(patch / GRID)) / GRID}%` };
}

// What is known of a patch: [key in the maps, how it is written, unit].
const OF_PATCH = [
  ["attention", "a", ""], ["weight", "w", ""], ["bits", "M", "bit"], ["gain", "gain of one more bit", ""],
  ["flips", "flipped", "bit"], ["subchannels", "subchannels", ""], ["power", "power of each", ""], ["air_ms", "on the air", "ms"],
];

function Patch({ view, patch }) {
  if (patch === null) return html`<p class="reading quiet">point at a patch, or move over them with the arrow keys</p>`;
  const known = OF_PATCH.filter(([key]) => view.maps[key]);
  return html`<p class="reading" data-testid="patch">patch ${patch} (row ${Math.floor(patch / GRID)}, column ${patch % GRID})
    ${known.map(([key, text, unit]) => html` · ${text} <b>${short(view.maps[key][patch])}</b>${unit && ` ${unit}`}`)}
    ${view.maps.lost?.[patch] ? " · lost" : ""}</p>`;
}

function Classes({ found }) {
  return html`<ol class="classes" aria-label="likeliest classes">
    ${found.slice(0, 5).map((each) => html`<li key=${each.label}>
      <span class="bar" style=${{ width: percent(each.confidence).replace(" ", "") }}></span>
      <span class="name">${each.name}</span><span class="number">${share(each.confidence)}</span></li>`)}
  </ol>`;
}

function Bits({ view }) {
  const lost = view.segments_lost ? html`<div><dt>lost</dt><dd>${whole(view.segments_lost)} segments</dd></div>` : null;
  return html`<dl class="bits">
    <div><dt>header</dt><dd>${bits(view.header_bits - view.opinion_bits)}</dd></div>
    <div><dt>payload</dt><dd>${bits(view.payload_bits)}</dd></div>
    ${view.opinion_bits ? html`<div><dt>opinion</dt><dd>${bits(view.opinion_bits)}</dd></div>` : null}
    <div><dt>on air</dt><dd>${bits(view.bits_on_air.uplink)}</dd></div>
    <div><dt>flipped</dt><dd>${bits(view.bits_flipped)}</dd></div>${lost}
    ${view.air_ms ? html`<div><dt>air time</dt><dd>${ms(view.air_ms)}</dd></div>` : null}
    ${view.channel_uses ? html`<div><dt>symbols</dt><dd>${whole(view.channel_uses)}</dd></div>` : null}
  </dl>`;
}

function Stages({ stages }) {
  const there = STAGES.filter((name) => stages[name] > 0);
  const total = there.reduce((sum, name) => sum + stages[name], 0);
  const told = there.map((name) => `${name} ${ms(stages[name])}`).join(", ");
  const [isOpen, open] = useState(false);
  return html`<div class="stages">
    <button type="button" class="stagebar" aria-expanded=${isOpen} aria-label="stages: ${told}" title=${told}
      onClick=${() => open(!isOpen)}>
      ${there.map((name) => html`<span key=${name} class="stage-${name}" style=${{ flexGrow: stages[name] }}></span>`)}
    </button>
    <span class="number">${ms(total)}</span>
    ${isOpen && html`<ul>${there.map((name) => html`<li key=${name}><span class="key stage-${name}"></span>${name} ${ms(stages[name])}</li>`)}</ul>`}
  </div>`;
}
