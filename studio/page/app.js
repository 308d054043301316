// Page: everything that is shown, made anew from the store whenever that has changed, at most once a frame.

import { html, render, useLayoutEffect, useMemo, useRef, useState } from "./vendor/htm-preact.js";
import { Arithmetic } from "./arithmetic.js";
import { Camera, namesOf, Standing, viewIn } from "./camera.js";
import { bitmap } from "./images.js";
import { Knobs } from "./knobs.js";
import { PANELS } from "./maps.js";
import { memo } from "./memo.js";
import { ms, sumOf } from "./numbers.js";
import { Compare } from "./compare.js";
import { Pictures, show } from "./pictures.js";
import { Radio } from "./radio.js";
import { Scenario } from "./scenario.js";
import { setKey } from "./server.js";
import { set, shown, start, state, step, turn } from "./store.js";
import { Timeline } from "./timeline.js";
import { Vote } from "./vote.js";

// These show nothing but what they are given, and so are made anew only when that has changed.
const Seldom = Object.fromEntries(
  Object.entries({ Arithmetic, Compare, Knobs, Pictures, Radio, Scenario, Timeline, Vote }).map(([name, component]) => [name, memo(component)]),
);

function App() {
  const { settings, knobs, connection } = state;
  const names = useMemo(() => namesOf(settings?.cameras), [settings?.cameras]);
  if (connection === "key" || connection === "refused") return html`<${Key} isRefused=${connection === "refused"} />`;
  if (!settings || !knobs) {
    return html`<main class="waiting"><h1>Semlink studio</h1><p role="status">waits for the studio…${state.why && ` ${state.why}`}</p>
      ${state.problem && html`<p class="failure" role="alert" data-testid="problem">${state.problem}</p>`}</main>`;
  }
  const round = shown();
  return html`
    <header class="top">
      <button type="button" class="skip" data-testid="skip" onClick=${() => document.querySelector(".knobs").focus()}>Skip to the knobs</button>
      <h1>Semlink studio</h1>
      <div class="run" role="group" aria-label="rounds">
        <button type="button" data-testid="run" class=${settings.running ? "on" : ""} onClick=${() => turn({ running: !settings.running })}>
          ${settings.running ? "Pause" : "Run"}</button>
        <button type="button" data-testid="step" onClick=${step}>Step</button>
        <button type="button" data-testid="freeze" aria-pressed=${settings.frozen} title="every round meets the same noise"
          onClick=${() => turn({ frozen: !settings.frozen })}>Freeze noise</button>
      </div>
      <ul class="processes" aria-label="processes" data-testid="processes">
        ${connection === "lost" && html`<li><span class="failure" role="alert">${state.why || "the studio does not answer"}; asking again</span></li>`}
        ${state.processes.filter((each) => !each.name.startsWith("camera-")).map((each) => html`
          <li key=${each.name} data-testid="process-${each.name}">${each.name} <${Standing} process=${each} /></li>`)}
      </ul>
      <${Lag} lag=${state.lag} />
    </header>
    ${state.problem && html`<${Problem} text=${state.problem} />`}
    <main class="layout">
      <div class="upper">
        <div class="cameras">
          <${Panels} />
          <div class="tiles" data-count=${names.length}>${names.map((name) => html`<${Camera} key=${name} name=${name} ...${viewIn(round, name)}
            patch=${state.patch} panels=${state.panels} opacity=${state.opacity} process=${state.processes.find((each) => each.name === name)} />`)}</div>
        </div>
        ${state.pinned && html`<${Seldom.Arithmetic} pinned=${state.pinned} round=${round} />`}
      </div>
      <div class="side">
        <${Seldom.Vote} round=${round} isNewest=${state.opened === null} knobs=${knobs} settings=${settings}
          impairments=${state.channel.impairments} />
        <${Seldom.Knobs} knobs=${knobs} settings=${settings} channel=${state.channel} presets=${state.presets} scope=${state.scope} names=${names} />
      </div>
      <div class="lower">
        <${Seldom.Timeline} rounds=${state.rounds} names=${names} shown=${round?.number} label=${state.label} />
        <div class="more">
          <${Seldom.Compare} round=${state.current} names=${names} wanted=${state.compare} scope=${state.scope} />
          <${Seldom.Radio} round=${round} names=${names} patch=${state.patch} />
          <${Seldom.Scenario} channel=${state.channel} />
          <${Seldom.Pictures} cameras=${settings.cameras} />
        </div>
      </div>
    </main>`;
}

// Dismissed, it gives the focus back to where that was when it came.
function Problem({ text }) {
  const focused = useRef();
  const button = useRef();
  useLayoutEffect(() => { // before a key can move the focus on
    if (document.activeElement !== button.current) focused.current = document.activeElement;
  }, [text]);
  const dismiss = () => {
    focused.current.focus();
    set({ problem: "" });
  };
  return html`<p class="problem" role="alert" data-testid="problem">${text} <button type="button" ref=${button} aria-label="dismiss" onClick=${dismiss}>✕</button></p>`;
}

// Files that are dropped anywhere are pictures; else the browser would leave the page for them.
function drop(event) {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  if (event.type === "drop" && state.settings) show(event.dataTransfer.files, state.settings.cameras);
}

function Panels() {
  return html`<div class="choice" role="group" aria-label="what tiles show">
    ${Object.entries(PANELS).map(([key, panel]) => html`<button type="button" key=${key} data-testid="panel-${key}" aria-pressed=${state.panels[key]}
      onClick=${() => set({ panels: { ...state.panels, [key]: !state.panels[key] } })}>${panel.name}</button>`)}
    <label>opacity <input type="range" min="0" max="1" step="0.05" value=${state.opacity} data-testid="opacity"
      onInput=${(event) => set({ opacity: Number(event.target.value) })} /></label>
  </div>`;
}

function Lag({ lag }) {
  if (!lag) return null;
  return html`<p class="quiet lag" data-testid="lag" data-round=${lag.round} data-ms=${lag.ms} data-stages=${lag.stages}>
    knob to pictures ${ms(lag.ms)}, of which stages ${ms(lag.stages)}</p>`;
}

function Key({ isRefused }) {
  const [key, keep] = useState("");
  const use = (event) => {
    event.preventDefault();
    set({ connection: "lost" });
    setKey(key.trim());
  };
  return html`<main class="waiting"><h1>Semlink studio</h1><form onSubmit=${use}>
    <label>API key <input type="password" autocomplete="off" required pattern="\\s*[A-Za-z0-9._~+\\/\\-]+=*\\s*" data-testid="key"
      title="letters, digits, . _ ~ + / - and, at its end, =" value=${key} onInput=${(event) => keep(event.target.value)} /></label>
    <button data-testid="use-key">Use it</button></form>
    ${isRefused && html`<p class="failure" role="alert" data-testid="key-refused">this key is not accepted here</p>`}</main>`;
}

// Once all of a turned knob's pictures are there: how long that took, beside what the slowest camera's stages report.
function measure() {
  const { current: round, turned } = state;
  if (turned === null || !round?.is_over || state.awaited !== round.number) return;
  Object.assign(state, { turned: null, awaited: null });
  const views = Object.values(round.views);
  const stages = Math.max(0, ...views.map((view) => sumOf(view.stages_ms)));
  Promise.all(views.map((view) => bitmap(view.images.arrived ?? view.images.picture)))
    .then(() => requestAnimationFrame(() => set({ lag: { ms: performance.now() - turned, stages, round: round.number } })), () => {});
}

for (const kind of ["dragover", "drop"]) document.addEventListener(kind, drop);
const place = document.getElementById("studio");
start(() => {
  render(html`<${App} />`, place);
  measure();
});
render(html`<${App} />`, place);
