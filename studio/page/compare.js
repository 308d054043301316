// Comparison: one picture over two links and the same noise, a divider to drag, and where they stand on the curves.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { again } from "./again.js";
import { bitmap } from "./images.js";
import { SIDE } from "./maps.js";
import { bits, ms, share, sumOf } from "./numbers.js";
import { ask } from "./server.js";
import { compare, reason } from "./store.js";
import { Curves } from "./curves.js";

// wanted: what is compared, which the page's address has, too; null: nothing. scope: whose knobs are looked at.
export function Compare({ round, names, wanted, scope }) {
  const camera = Math.max(names.indexOf(scope), 0) + 1;
  const toggled = (isOpen) => isOpen !== Boolean(wanted) && compare(isOpen ? { left: "as set", right: "fixed", camera, equal_bits: true } : null);
  return html`<details class="panel compare" data-testid="compare" open=${Boolean(wanted)} onToggle=${(event) => toggled(event.target.open)}>
    <summary>Compare two links</summary>${wanted && html`<${Comparison} round=${round} names=${names} wanted=${wanted} />`}</details>`;
}

function Comparison({ round, names, wanted }) {
  const [links, setLinks] = useState([]);
  const [at, setAt] = useState(0.5);
  const { found, problem } = useComparison(wanted, round);
  useEffect(() => again(() => ask("GET", "v1/links"), setLinks), []);
  const choice = (key, label) => html`<label>${label} <select data-testid="compare-${key}" value=${wanted[key]}
    onChange=${(event) => compare({ ...wanted, [key]: event.target.value })}>
    ${links.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>`;
  return html`<div class="run">${choice("left", "left")} ${choice("right", "right")}
      <label>camera <select data-testid="compare-camera" value=${wanted.camera} onChange=${(event) => compare({ ...wanted, camera: Number(event.target.value) })}>
        ${names.map((name, number) => html`<option key=${name} value=${number + 1}>${number + 1}</option>`)}</select></label>
      <label><input type="checkbox" data-testid="compare-equal" checked=${wanted.equal_bits}
        onChange=${(event) => compare({ ...wanted, equal_bits: event.target.checked })} /> equal bits on air</label></div>
    ${problem && html`<p class="failure" role="alert" data-testid="compare-problem">${problem}</p>`}
    ${found && html`<div class="compared">
      <${Divided} left=${found.left} right=${found.right} at=${at} set=${setAt} />
      <p class=${found.bits.equal ? "quiet" : "failure"} role="status" data-testid="compare-bits" data-equal=${String(found.bits.equal)}>${found.bits.note}</p>
      <${Said} name="left" link=${found.links.left} view=${found.left} />
      <${Said} name="right" link=${found.links.right} view=${found.right} />
      <${Curves} sides=${[found.left, found.right]} /></div>`}`;
}

// The newest answer to what is wanted; it is asked for again when a round is over, one comparison at a time.
function useComparison(wanted, round) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  const [asked, setAsked] = useState({});
  const newest = useRef();
  newest.current = wanted;
  const over = round ? round.number - (round.is_over ? 0 : 1) : 0; // number of the last round that is
  useEffect(() => {
    if (!over || asked.isUnderWay || (asked.wanted === wanted && asked.over === over)) return;
    const end = (changeShown) => {
      if (newest.current === wanted) changeShown();
      setAsked({ wanted, over });
    };
    setAsked({ isUnderWay: true });
    ask("POST", "v1/comparisons", wanted).then(
      (answer) => end(() => { setFound({ ...answer, links: wanted }); setProblem(""); }),
      (error) => end(() => { setFound((before) => (before?.links === wanted ? before : null)); setProblem(reason(error)); }), // not those of other links
    );
  }, [wanted, over, asked]);
  return { found, problem };
}

function Divided({ left, right, at, set }) {
  const canvas = useRef();
  const [isMissing, setMissing] = useState(false);
  useEffect(() => {
    const context = canvas.current.getContext("2d");
    const edge = Math.round(SIDE * at);
    return again(() => Promise.all([left, right].map((view) => bitmap(view.images.arrived ?? view.images.picture))), (images) => {
      context.drawImage(images[0], 0, 0, SIDE, SIDE);
      if (edge < SIDE) context.drawImage(images[1], edge, 0, SIDE - edge, SIDE, edge, 0, SIDE - edge, SIDE);
      setMissing(false);
    }, () => {
      context.clearRect(0, 0, SIDE, SIDE);
      setMissing(true);
    });
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
      onInput=${(event) => set(Number(event.target.value))} /></label>
    ${isMissing && html`<p class="quiet">the pictures could not be fetched</p>`}</div>`;
}

function Said({ name, link, view }) {
  return html`<div data-testid="compared-${name}" data-bits=${view.bits_on_air.uplink}><h3>${name}: ${link}</h3>
    <p><b>${view.top1.name}</b> ${share(view.top1.confidence)}</p>
    <dl class="bits"><div><dt>on air</dt><dd>${bits(view.bits_on_air.uplink)}</dd></div>
      <div><dt>over</dt><dd>${view.over}${view.access && `, ${view.access}`}</dd></div>
      <div><dt>flipped</dt><dd>${bits(view.bits_flipped)}</dd></div><div><dt>stages</dt><dd>${ms(sumOf(view.stages_ms))}</dd></div></dl>
    <ol class="classes">${view.predictions.slice(0, 3).map((each) => html`<li key=${each.label}><span class="name">${each.name}</span>
      <span class="number">${share(each.confidence)}</span></li>`)}</ol></div>`;
}
