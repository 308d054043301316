// Page: everything that is shown, made anew from the store whenever that has changed, at most once a frame.

import { html, render, useState } from "./vendor/htm-preact.js";
import { Camera, Standing } from "./camera.js";
import { bitmap } from "./images.js";
import { Knobs } from "./knobs.js";
import { PANELS } from "./maps.js";
import { ms } from "./numbers.js";
import { Compare } from "./compare.js";
import { Pictures, show } from "./pictures.js";
import { Radio } from "./radio.js";
import { Scenario } from "./scenario.js";
import { setKey } from "./server.js";
import { set, shown, start, state, step, turn } from "./store.js";
import { Timeline } from "./timeline.js";
import { Vote } from "./vote.js";

function App() {
  const { settings, knobs, connection } = state;
  if (connection === "key") return html`<${Key} />`;
  if (!settings || !knobs) return html`<main class="waiting"><h1>Semlink studio</h1><p role="status">waits for the studio…</p></main>`;
  const names = Array.from({ length: settings.cameras }, (_, number) => `camera-${number + 1}`);
  const round = shown();
  return html`
    <header class="top">
      <h1>Semlink studio</h1>
      <div class="run" role="group" aria-label="rounds">
        <button type="button" data-testid="run" aria-pressed=${settings.running} onClick=${() => turn({ running: !settings.running })}>
          ${settings.running ? "Pause" : "Run"}</button>
        <button type="button" data-testid="step" onClick=${step}>Step</button>
        <button type="button" data-testid="freeze" aria-pressed=${settings.frozen} title="every round meets the same noise"
          onClick=${() => turn({ frozen: !settings.frozen })}>Freeze noise</button>
      </div>
      <ul class="processes" aria-label="processes" data-testid="processes">
        ${connection === "lost" && html`<li class="failure" role="alert">the studio does not answer; asking again</li>`}
        ${state.processes.filter((each) => !each.name.startsWith("camera-")).map((each) => html`
          <li key=${each.name} data-testid="process-${each.name}">${each.name} <${Standing} standing=${each.standing} why=${each.why} /></li>`)}
      </ul>
      <${Lag} lag=${state.lag} />
    </header>
    ${state.problem && html`<p class="problem" role="alert" data-testid="problem">${state.problem}
      <button type="button" aria-label="dismiss" onClick=${() => set({ problem: "" })}>✕</button></p>`}
    <main class="layout" onDragOver=${(event) => event.preventDefault()} onDrop=${(event) => drop(event, settings.cameras)}>
      <div class="middle">
        <div class="cameras">
          <${Panels} />
          <div class="tiles" data-count=${names.length}>${names.map((name) => html`<${Camera} key=${name} name=${name} round=${round}
            patch=${state.patch} panels=${state.panels} opacity=${state.opacity} process=${state.processes.find((each) => each.name === name)} />`)}</div>
        </div>
        <${Timeline} rounds=${state.rounds} names=${names} shown=${round} label=${state.label} />
        <div class="more">
          <${Compare} round=${state.current} names=${names} ber=${state.channel.impairments?.default.ber ?? 0} />
          <${Radio} round=${round} names=${names} patch=${state.patch} />
          <${Scenario} channel=${state.channel} />
          <${Pictures} cameras=${settings.cameras} />
        </div>
      </div>
      <div class="side">
        <${Vote} round=${round} names=${names} isNewest=${state.opened === null} />
        <${Knobs} knobs=${knobs} settings=${settings} channel=${state.channel} presets=${state.presets} scope=${state.scope} names=${names} />
      </div>
    </main>`;
}

function drop(event, cameras) {
  event.preventDefault();
  show(event.dataTransfer.files, cameras);
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
  return html`<p class="quiet lag" data-testid="lag" data-ms=${lag.ms} data-stages=${lag.stages}>
    knob to pictures ${ms(lag.ms)}, of which stages ${ms(lag.stages)}</p>`;
}

function Key() {
  const [key, keep] = useState("");
  const use = (event) => {
    event.preventDefault();
    setKey(key);
    set({ connection: "lost" });
  };
  return html`<main class="waiting"><h1>Semlink studio</h1><form onSubmit=${use}>
    <label>API key <input type="password" autocomplete="off" value=${key} onInput=${(event) => keep(event.target.value)} /></label>
    <button>Use it</button></form></main>`;
}

// Once all of a turned knob's pictures are there: how long that took, beside what the slowest camera's stages report.
function measure() {
  const { current: round, turned } = state;
  if (turned === null || !round?.is_over || state.awaited !== round.number) return;
  Object.assign(state, { turned: null, awaited: null });
  const views = Object.values(round.views);
  const stages = Math.max(0, ...views.map((view) => Object.values(view.stages_ms).reduce((sum, each) => sum + each, 0)));
  Promise.all(views.map((view) => bitmap(view.images.arrived ?? view.images.picture)))
    .then(() => requestAnimationFrame(() => set({ lag: { ms: performance.now() - turned, stages } })), () => {});
}

const place = document.getElementById("studio");
start(() => {
  performance.mark("frame");
  render(html`<${App} />`, place);
  measure();
  performance.measure("studio-frame", "frame");
});
render(html`<${App} />`, place);
