// Camera tile: what one camera saw, sent, and what arrived; what the server takes it for, the bits and the time it took.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { again } from "./again.js";
import { bitmap, greyBitmap, whyNot } from "./images.js";
import { draw, GRID, largest, meanPower, PANELS, placeOf, SIDE } from "./maps.js";
import { memo } from "./memo.js";
import { bits, ms, percent, share, short, sumOf, whole } from "./numbers.js";
import { set, state } from "./store.js";

const STAGES = ["attention", "encode", "plan", "channel", "network", "decode", "queue", "inference"];

export const namesOf = (cameras = 0) => Array.from({ length: cameras }, (_, number) => `camera-${number + 1}`);

// What a tile shows of a round: until a view is answered, the one before.
export function viewIn(round, name) {
  const failure = round?.failures[name];
  const isStale = Boolean(round && !round.is_over && !failure && !round.views[name]);
  return { failure, isStale, view: isStale ? round.stale?.views[name] : round?.views[name] };
}

export const Camera = memo(Tile);

function Tile({ name, process, view, failure, isStale, patch, panels, opacity }) {
  const standing = process?.standing ?? "starting";
  const [keyed, setKeyed] = useState(null); // round in which a key was pressed here: only then is the patch told of
  return html`<article class="tile ${isStale ? "stale" : ""}" data-testid=${name} data-round=${view?.round}
    aria-label=${name} onkeydown=${() => setKeyed(view?.round)} onfocusout=${() => setKeyed(null)}>
    <header>
      <h2>${name}</h2>
      <${Standing} process=${process} />
      ${view && html`<span class="top1"><b>${view.top1.name}</b> ${share(view.top1.confidence)}</span>`}
    </header>
    ${failure && html`<p class="failure" role="status">${failure}</p>`}
    ${view && html`
      <div class="panels">
        ${Object.keys(PANELS).filter((key) => panels[key]).map(
          (key) => html`<${Panel} key=${key} name=${name} kind=${key} digest=${view.images[PANELS[key].image]}
            values=${view.maps[PANELS[key].map]} patch=${patch} opacity=${opacity} />`,
        )}
      </div>
      <${Patch} view=${view} patch=${patch} isTold=${keyed === view.round} />
      <div class="facts"><${Classes} found=${view.predictions} /><${Bits} view=${view} /></div>
      <${Stages} stages=${view.stages_ms} />`}
    ${!view && !failure && html`<p class="quiet">${standing === "ready" ? "no view in this round" : "waits for its camera"}</p>`}
  </article>`;
}

export const Standing = memo(({ process }) => {
  const { standing = "starting", why, pid } = process ?? {};
  const signs = { ready: "●", starting: "◐", silent: "○", ended: "✕", unwatched: "–" };
  return html`<span class="standing ${standing}" title=${pid ? `process id ${pid}` : null}><span aria-hidden="true">${signs[standing]}</span> ${standing}${why ? `: ${why}` : ""}</span>`;
});

const Panel = memo(({ name, kind, digest, values, patch, opacity }) => {
  const panel = PANELS[kind];
  const canvas = useRef();
  const [problem, tell] = useState(""); // why the image is not shown
  const isMissing = !digest || (panel.map && !values);
  useEffect(() => {
    const show = (image, why = "") => {
      draw(canvas.current, image, panel, values, opacity);
      tell(why);
    };
    if (isMissing) return show(null);
    return again(() => (panel.map ? greyBitmap : bitmap)(digest), show, (error) => show(null, whyNot(error)));
  }, [digest, values, opacity]);
  const most = values ? largest(values) : 0;
  return html`<figure>
    <div class="canvas" tabindex="0" role="application" aria-label="${panel.name} of ${name}"
      onClick=${(event) => set({ pinned: { name, patch: under(event), opener: event.currentTarget } })}
      onPointerMove=${(event) => set({ patch: under(event) })} onPointerLeave=${() => set({ patch: null })}
      onKeyDown=${(event) => move(event, name)} onBlur=${() => set({ patch: null })}>
      <canvas ref=${canvas} width=${SIDE} height=${SIDE}></canvas>
      ${patch !== null && html`<span class="patch" style=${at(patch)}></span>`}
    </div>
    <figcaption>${panel.name}${panel.symbol && html` <i>${panel.symbol}</i>`}
      ${values && html`<span class="scale"><span>0</span><span class="colours" style=${panel.gradient}></span><span>${short(most)} ${panel.unit}</span></span>`}
      ${isMissing && html`<span class="quiet">none</span>`}
      ${problem && html`<span class="quiet">${problem}</span>`}
    </figcaption>
  </figure>`;
});

function under(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return patchAt(Math.floor((GRID * (event.clientX - box.left)) / box.width), Math.floor((GRID * (event.clientY - box.top)) / box.height));
}

function patchAt(column, row) {
  const within = (value) => Math.min(GRID - 1, Math.max(0, value));
  return GRID * within(row) + within(column);
}

function move(event, name) {
  if (event.key === "Enter" && state.patch !== null) set({ pinned: { name, patch: state.patch, opener: event.currentTarget } });
  if (event.key === "Escape") set({ pinned: null });
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const from = state.patch ?? state.pinned?.patch;
  const [across, down] = steps[event.key];
  set({ patch: from === undefined ? 0 : patchAt((from % GRID) + across, Math.floor(from / GRID) + down) });
}

function at(patch) {
  return { left: `${(100 * (patch % GRID)) / GRID}%`, top: `${(100 * Math.floor(patch / GRID)) / GRID}%` };
}

// What is known of a patch: [key in the maps, how it is written, unit].
const OF_PATCH = [
  ["attention", "a", ""], ["weight", "w", ""], ["bits", "M", "bit"], ["gain", "gain of one more bit", "squared grey levels"],
  ["flips", "flipped", "bit"], ["error", "mean squared error", "squared grey levels"], ["subchannels", "subchannels", ""], ["power", "power of each", ""], ["air_ms", "on the air", "ms"],
];

function Patch({ view, patch, isTold }) {
  const live = isTold ? "polite" : "off";
  if (patch === null) return html`<p class="reading quiet" aria-live=${live}>point at a patch, or move over them with the arrow keys; a click or Enter shows its arithmetic</p>`;
  const known = OF_PATCH.filter(([key]) => view.maps[key]);
  return html`<p class="reading" data-testid="patch" aria-live=${live} aria-atomic="true">${placeOf(patch)}
    ${known.map(([key, text, unit]) => html` · ${text} <b>${short(view.maps[key][patch])}</b>${unit && ` ${unit}`}${key === "power" && ` of a mean of ${short(meanPower(view.maps))}`}`)}
    ${view.maps.lost?.[patch] ? " · lost" : ""}</p>`;
}

const Classes = memo(({ found }) => {
  return html`<ol class="classes" aria-label="likeliest classes">
    ${found.slice(0, 5).map((each) => html`<li key=${each.label}>
      <span class="bar" style=${{ width: percent(each.confidence).replace(" ", "") }}></span>
      <span class="name">${each.name}</span><span class="number">${share(each.confidence)}</span></li>`)}
  </ol>`;
});

const Bits = memo(({ view }) => {
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
});

const Stages = memo(({ stages }) => {
  const there = STAGES.filter((name) => stages[name] > 0);
  const told = there.map((name) => `${name} ${ms(stages[name])}`).join(", ");
  const [isOpen, open] = useState(false);
  return html`<div class="stages">
    <button type="button" class="stagebar" aria-expanded=${isOpen} aria-label="stages: ${told}" title=${told}
      onClick=${() => open(!isOpen)}>
      ${there.map((name) => html`<span key=${name} class="stage-${name}" style=${{ flexGrow: stages[name] }}></span>`)}
    </button>
    <span class="number">${ms(sumOf(stages))}</span>
    ${isOpen && html`<ul>${there.map((name) => html`<li key=${name}><span class="key stage-${name}"></span>${name} ${ms(stages[name])}</li>`)}</ul>`}
  </div>`;
});
