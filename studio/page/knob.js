// Knob: one control of a setting as the studio describes it; symbol, unit and equation; why a value was refused.

import { useDraft } from "./draft.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { Equation } from "./equation.js";

const WAIT_MS = 90;
const STEPS = 1000; // of a slider; as many as there are numbers, where these are whole and evenly spaced

// turn(value) gives why the value was refused, or nothing.
export function Knob({ knob, value, turn }) {
  const [isOpen, open] = useState(false);
  const [refused, setRefused] = useState("");
  const asked = useRef(0);
  const id = `knob-${knob.testid}`;
  const give = async (wanted) => {
    const number = ++asked.current;
    const why = await turn(wanted);
    if (number === asked.current) setRefused(why);
    return why;
  };
  const control = { id, knob, value, give, refused, forgive: () => { asked.current += 1; setRefused(""); } };
  return html`<div class="knob">
    <label for=${id}>${knob.label} ${knob.symbol.length > 0 && html`<${Equation} elements=${knob.symbol} display="inline" />`}</label>
    <${Control} ...${control} />
    <button type="button" class="what" aria-expanded=${isOpen} aria-label="about ${knob.label}" onClick=${() => open(!isOpen)}>?</button>
    ${refused && html`<p class="refused failure" id="${id}-refused" role="alert" data-testid="${knob.testid}-refused">${refused}</p>`}
    ${isOpen && html`<${About} knob=${knob} />`}
  </div>`;
}

function About({ knob }) {
  return html`<div class="about"><p>${prose(knob.help)} ${range(knob)}</p>
    ${knob.equation.length > 0 && html`<${Equation} elements=${knob.equation} />`}
    ${knob.from && html`<p class="quiet">${knob.from}</p>`}</div>`;
}

// Text in which names stand between backticks.
export const prose = (text) => text.split("`").map((part, at) => (at % 2 ? html`<code>${part}</code>` : part));

function range({ low, high, excludes_low, excludes_high, unit }) {
  if (low === null) return "";
  const from = `${excludes_low ? "Above" : "At least"} ${bound(low, 1)}`;
  const to = high === null ? "" : `, ${excludes_high ? "below" : "at most"} ${bound(high, -1)}`;
  return `${from}${to}${unit && ` ${unit}`}.`;
}

// Exact where it is whole; else with four digits, rounded up (1) or down (-1) into the range.
function bound(value, inwards) {
  if (Number.isSafeInteger(value)) return value.toLocaleString("en");
  const near = Number(value.toPrecision(4));
  const isOut = (near - value) * inwards < 0;
  const digit = 10 ** (Math.floor(Math.log10(Math.abs(value))) - 3);
  return (isOut ? near + inwards * digit : near).toLocaleString("en", { maximumSignificantDigits: 4 });
}

function Control(control) {
  const { id, knob, value, give, refused } = control;
  const about = { "aria-invalid": Boolean(refused), "aria-describedby": refused ? `${id}-refused` : undefined };
  if (knob.kind === "choice") {
    const choose = async ({ target }) => { if (await give(chosen(knob, target.value))) target.value = String(value ?? ""); };
    return html`<select id=${id} data-testid=${knob.testid} value=${String(value ?? "")} ...${about} onChange=${choose}>
      ${knob.may_be_none && html`<option value="">as it suits</option>`}
      ${knob.choices.map((each) => html`<option key=${each} value=${String(each)}>${String(each)}</option>`)}
    </select>`;
  }
  if (knob.kind === "flag") {
    const check = async ({ target }) => { if (await give(target.checked)) target.checked = Boolean(value); };
    return html`<input id=${id} type="checkbox" data-testid=${knob.testid} checked=${Boolean(value)} ...${about} onChange=${check} />`;
  }
  return html`<${Numeric} ...${control} about=${about} />`;
}

const chosen = (knob, text) => (text === "" ? null : knob.choices.find((each) => String(each) === text));

function Numeric({ id, knob, value, give, forgive, about }) {
  const waiting = useRef(0);
  const last = useRef(null); // where the slider was moved to: many places of it may stand for one value
  const [draft, setDraft] = useState(null); // what is being typed
  const [slid, move, giveSlid] = useDraft((at) => give(fromSlider(knob, at)));
  useEffect(() => () => clearTimeout(waiting.current), []);
  const later = (work) => { waiting.current = setTimeout(work, WAIT_MS); };
  const type = (text) => {
    setDraft(text);
    move(null);
    clearTimeout(waiting.current);
    const number = text === "" && knob.may_be_none ? null : Number(text);
    if (number === null || (text !== "" && Number.isFinite(number))) later(() => give(number));
  };
  const slide = (at) => {
    setDraft(null);
    move(at);
    last.current = at;
    clearTimeout(waiting.current);
    later(() => giveSlid(at));
  };
  const there = slid === null ? value : fromSlider(knob, slid);
  const isWhereItWas = last.current !== null && fromSlider(knob, last.current) === there;
  const keyed = (event) => {
    if (event.key !== "Escape") return;
    clearTimeout(waiting.current);
    setDraft(null);
    move(null);
    forgive();
  };
  // What was refused stays while it is typed, and what holds is there again afterwards.
  return html`<span class="numeric">
    ${isBounded(knob) && html`<input type="range" min="0" max=${steps(knob)} aria-label="${knob.label}, slider" data-testid="${knob.testid}-slider"
      aria-valuetext="${there ?? "none"} ${knob.unit}" value=${isWhereItWas ? last.current : toSlider(knob, there ?? knob.low)}
      onInput=${(event) => slide(Number(event.target.value))} />`}
    <input id=${id} type="number" data-testid=${knob.testid} min=${knob.low} max=${knob.high} step=${knob.kind === "whole" ? 1 : "any"}
      placeholder=${knob.may_be_none ? "none" : ""} value=${draft ?? there ?? ""} ...${about}
      onInput=${(event) => type(event.target.value)} onKeyDown=${keyed} onBlur=${() => setDraft(null)} />
    <span class="unit">${knob.unit}</span></span>`;
}

// A name that is a number, as a seed is, is typed: no value of it is more than another.
const isName = (knob) => knob.kind === "whole" && knob.low === 0 && knob.high > 1e5;
const isBounded = (knob) => knob.low !== null && knob.high !== null && knob.high <= Number.MAX_SAFE_INTEGER && !isName(knob);

// From slider to value, both from 0 to 1: wide ranges go by factors; error rates, variances and times are finer near 0.
function scale(knob) {
  const { low, high } = knob;
  if (low > 0 && high / low >= 500) return { to: (at) => low * (high / low) ** at, from: (value) => Math.log(value / low) / Math.log(high / low) };
  const power = low === 0 && knob.kind === "number" && /ber|bler|loss|error|every|protect/.test(knob.name) ? 3 : 1;
  return { isEven: power === 1, to: (at) => low + at ** power * (high - low), from: (value) => ((value - low) / (high - low)) ** (1 / power) };
}

const steps = (knob) => (knob.kind === "whole" && scale(knob).isEven ? knob.high - knob.low : STEPS);

function toSlider(knob, value) {
  return Math.round(steps(knob) * scale(knob).from(Math.min(Math.max(value, knob.low), knob.high)));
}

function fromSlider(knob, slider) {
  const most = steps(knob);
  const at = Math.min(Math.max(slider, knob.excludes_low ? 1 : 0), most - (knob.excludes_high ? 1 : 0));
  const value = scale(knob).to(at / most);
  return Math.min(knob.kind === "whole" ? Math.round(value) : Number(value.toPrecision(3)), knob.high);
}
