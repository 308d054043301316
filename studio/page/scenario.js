// Scenario: a timeline of the channel, played, paused, looped and scrubbed; and who told the emulator what.

import { useDraft } from "./draft.js";
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { changeScenario, loadScenario, removeScenario, set } from "./store.js";

// Timelines to begin with; any other as a file of JSON or CSV, as the emulator takes it.
const READY = {
  "fading away": {
    loop: true,
    steps: [24, 18, 14, 10, 6, 10, 14, 18].map((snr_db, at) => ({ at: 3 * at, default: { type: "awgn", order: 16, snr_db } })).concat({ at: 24 }),
  },
  "bursts come and go": {
    loop: true,
    steps: [{ at: 0, default: { preset: "clear" } }, { at: 4, default: { preset: "burst" } }, { at: 8, default: { preset: "clear" } },
      { at: 10, default: { preset: "lossy" } }, { at: 14 }],
  },
  "one camera drives off": {
    loop: true,
    steps: [{ at: 0, default: { type: "bsc", ber: 0.001 }, devices: { "camera-2": null } },
      ...[0.01, 0.05, 0.1, 0.2].map((ber, at) => ({ at: 3 + 3 * at, devices: { "camera-2": { type: "bsc", ber } } })), { at: 15 }],
  },
};
const TICK_MS = 200;
const MOST_TOLD = 4; // devices, and parameters of each, of a change of settings

export function Scenario({ channel }) {
  const { scenario, events } = channel;
  return html`<details class="panel scenario" data-testid="scenario"><summary>Scenario</summary>
    <div class="run">${Object.keys(READY).map((name) => html`
      <button type="button" key=${name} data-testid="scenario-${name.split(" ")[0]}" onClick=${() => loadScenario(READY[name])}>${name}</button>`)}</div>
    <label>a file <input type="file" accept=".json,.csv" data-testid="scenario-file" onChange=${(event) => fromFile(event.target)} /></label>
    ${scenario ? html`<${Playback} scenario=${scenario} />` : html`<p class="quiet">none is loaded</p>`}
    <h3>What changed the channel</h3>
    <ol class="log">${events.toReversed().slice(0, 8).map((event) => html`<li key=${event.cursor}>
      <time>${event.time.slice(11, 19)}</time> ${told(event)}</li>`)}</ol>
  </details>`;
}

async function fromFile(input) {
  const [file] = input.files;
  input.value = ""; // so that the same file may be chosen again
  if (!file) return;
  const isTable = file.name.endsWith(".csv");
  try {
    loadScenario(await file.text(), isTable ? "text/csv" : "application/json");
  } catch {
    set({ problem: `${file.name} cannot be read` });
  }
}

function told(event) {
  if (event.kind === "settings") return `${event.by}: ${differences(event) || event.action}`;
  if (event.kind === "scenario") return `scenario ${event.action} at ${event.position} s`;
  return `refused: ${event.detail}`;
}

// What settings became: "default: bsc, ber 0.2; camera-2: as default".
function differences({ before, after, preset }) {
  const own = Object.entries({ ...(after.default && { default: after.default }), ...after.devices });
  const said = own.slice(0, MOST_TOLD).map(([name, now]) => {
    const was = name === "default" ? before.default : before.devices[name];
    return `${name}: ${now ? preset ?? difference(was ?? {}, now) : "as default"}`;
  });
  return said.concat(own.length > MOST_TOLD ? "…" : []).join("; ");
}

function difference(before, { type, ...now }) {
  const changed = Object.entries(now).filter(([name, value]) => value !== null && (type !== before.type || value !== before[name]));
  const said = changed.slice(0, MOST_TOLD).map(([name, value]) => `${name} ${value}`);
  return [type, ...said, ...(changed.length > MOST_TOLD ? ["…"] : [])].join(", ");
}

function Playback({ scenario }) {
  const { playing, seconds, loop, step, steps } = scenario;
  const [now, setNow] = useState(performance.now());
  useEffect(() => {
    if (!playing) return undefined;
    const clock = setInterval(() => setNow(performance.now()), TICK_MS);
    return () => clearInterval(clock);
  }, [playing]);
  const since = playing ? Math.max(now - scenario.heard, 0) / 1000 : 0;
  const gone = scenario.position + since;
  const [draft, move, give] = useDraft((position) => changeScenario({ position }));
  const position = draft ?? (loop && seconds ? gone % seconds : Math.min(gone, seconds));
  const setLoop = async ({ target }) => { if (await changeScenario({ loop: target.checked })) target.checked = loop; };
  return html`<div class="run">
      <button type="button" data-testid="scenario-play" class=${playing ? "on" : ""} onClick=${() => changeScenario({ playing: !playing })}>${playing ? "Pause" : "Play"}</button>
      <label><input type="checkbox" data-testid="scenario-loop" checked=${loop} onChange=${setLoop} /> loop</label>
      <button type="button" data-testid="scenario-remove" onClick=${removeScenario}>Remove</button></div>
    <label class="scrub">position <input type="range" data-testid="scenario-position" min="0" max=${seconds} step="0.1" value=${position}
      onInput=${(event) => move(Number(event.target.value))} onChange=${(event) => give(Number(event.target.value))} />
      <output>${position.toFixed(1)} of ${seconds} s</output></label>
    <p class="quiet" data-testid="scenario-step">step ${step} of ${steps.length}</p>`;
}
