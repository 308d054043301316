// Comparison: one picture over two links and the same noise, a divider to drag, and where they stand on the curves.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { bitmap } from "./images.js";
import { SIDE } from "./maps.js";
import { bits, ms, share } from "./numbers.js";
import { ask } from "./server.js";
import { Curves } from "./curves.js";

export function Compare({ round, names, ber }) {
  const [isOpen, open] = useState(false);
  return html`<details class="panel compare" data-testid="compare" onToggle=${(event) => open(event.target.open)}>
    <summary>Compare two links</summary>${isOpen && html`<${Comparison} round=${round} names=${names} ber=${ber} />`}</details>`;
}

function Comparison({ round, names, ber }) {
  const [links, setLinks] = useState([]);
  const [wanted, want] = useState({ left: "as set", right: "avif", camera: 1, equal_bits: true });
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  const [at, setAt] = useState(0.5);
  useEffect(() => { ask("GET", "v1/links").then(setLinks, () => {}); }, []);
  const settled = round?.is_over ? round.number : null;
  useEffect(() => {
    if (settled === null) return undefined;
    let isCurrent = true;
    ask("POST", "v1/comparisons", wanted).then(
      (answer) => { if (isCurrent) { setFound({ ...answer, links: wanted }); setProblem(""); } },
      (error) => { if (isCurrent) setProblem(error.message); },
    );
    return () => { isCurrent = false; };
  }, [wanted, settled]);
  const choice = (key, label) => html`<label>${label} <select data-testid="compare-${key}" value=${wanted[key]}
    onChange=${(event) => want({ ...wanted, [key]: event.target.value })}>
    ${links.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>`;
  return html`<div class="run">${choice("left", "left")} ${choice("right", "right")}
      <label>camera <select data-testid="compare-camera" value=${wanted.camera} onChange=${(event) => want({ ...wanted, camera: Number(event.target.value) })}>
        ${names.map((name, number) => html`<option key=${name} value=${number + 1}>${number + 1}</option>`)}</select></label>
      <label><input type="checkbox" data-testid="compare-equal" checked=${wanted.equal_bits}
        onChange=${(event) => want({ ...wanted, equal_bits: event.target.checked })} /> equal bits on air</label></div>
    ${problem && html`<p class="failure" role="alert" data-testid="compare-problem">${problem}</p>`}
    ${found && html`<div class="compared">
      <${Divided} left=${found.left} right=${found.right} at=${at} set=${setAt} />
      <${Said} name="left" link=${found.links.left} view=${found.left} other=${found.right} />
      <${Said} name="right" link=${found.links.right} view=${found.right} other=${found.left} />
      <${Curves} sides=${[found.left, found.right]} ber=${ber} /></div>`}`;
}

function Divided({ left, right, at, set }) {
  const canvas = useRef();
  useEffect(() => {
    let isCurrent = true;
    Promise.all([left, right].map((view) => bitmap(view.images.arrived ?? view.images.picture))).then((images) => {
      if (!isCurrent) return;
      const context = canvas.current.getContext("2d");
      const edge = Math.round(SIDE * at);
      context.drawImage(images[0], 0, 0, SIDE, SIDE);
      if (edge < SIDE) context.drawImage(images[1], edge, 0, SIDE - edge, SIDE, edge, 0, SIDE - edge, SIDE);
    }, () => {});
    return () => { isCurrent = false; };
  }, [left, right, at]);
  const drag = (event) => {
    if (!event.buttons && event.type !== "pointerdown") return;
    const box = event.currentTarget.getBoundingClientRect();
    set(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };
  return html`<div class="divided">
    <div class="canvas" role="img" aria-label="what arrived over the left link, and over the right one"
      onPointerDown=${(event) => { event.currentTarget.setPointerCapture(event.pointerId); drag(event); }} onPointerMove=${drag}>
      <canvas ref=${canvas} width=${SIDE} height=${SIDE}></canvas><span class="divider" style=${{ left: `${100 * at}%` }}></span></div>
    <label>divider <input type="range" min="0" max="1" step="0.01" value=${at} data-testid="divider"
      onInput=${(event) => set(Number(event.target.value))} /></label></div>`;
}

function Said({ name, link, view, other }) {
  const total = Object.values(view.stages_ms).reduce((sum, each) => sum + each, 0);
  const more = view.bits_on_air.uplink - other.bits_on_air.uplink;
  return html`<div data-testid="compared-${name}" data-bits=${view.bits_on_air.uplink}><h3>${name}: ${link}</h3>
    <p><b>${view.top1.name}</b> ${share(view.top1.confidence)}</p>
    <dl class="bits"><div><dt>on air</dt><dd>${bits(view.bits_on_air.uplink)}</dd></div>
      <div><dt>beside the other</dt><dd>${more > 0 ? "+" : ""}${bits(more)}</dd></div>
      <div><dt>flipped</dt><dd>${bits(view.bits_flipped)}</dd></div><div><dt>stages</dt><dd>${ms(total)}</dd></div></dl>
    <ol class="classes">${view.predictions.slice(0, 3).map((each) => html`<li key=${each.label}><span class="name">${each.name}</span>
      <span class="number">${share(each.confidence)}</span></li>`)}</ol></div>`;
}
