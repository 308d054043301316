// Radio view: symbols as they arrived and, under a plan, what each subchannel is worth, which patch it carries, and blocks.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { again } from "./again.js";
import { cividis, viridis } from "./colormaps.js";
import { Constellation } from "./constellation.js";
import { gradient, largest } from "./maps.js";
import { ms, short } from "./numbers.js";
import { Plot, pointing } from "./plots.js";
import { ask } from "./server.js";
import { set } from "./store.js";
import { colour, useTheme } from "./theme.js";

const ROW = 18;
const BARS = { width: 600, height: 110 };
const LATE = "#d55e00";
const CHANGED = "The plan of this view cannot be shown: its channel was changed while it was sent, or could not be asked for. A step has its own.";
const GONE = "The radio views of the newest rounds alone are held: play this one again.";

export function Radio({ round, names, patch }) {
  const [isOpen, open] = useState(false);
  return html`<details class="panel radio" data-testid="radio" onToggle=${(event) => open(event.target.open)}>
    <summary>Radio view</summary>${isOpen && html`<${View} round=${round} names=${names} patch=${patch} />`}</details>`;
}

function View({ round, names, patch }) {
  const [chosen, choose] = useState(names[0]);
  const [answer, setAnswer] = useState({}); // {name, radio, isPlanned} or {name, problem}
  const name = names.includes(chosen) ? chosen : names[0];
  const over = round?.is_over ? round : round?.stale; // until a round is over, the one before is shown
  const view = over?.views[name];
  const number = view?.round ?? null;
  useEffect(() => {
    if (number === null) return undefined;
    return again(() => ask("GET", `v1/rounds/${number}/radio/${name}`), (radio) => setAnswer({ name, radio, isPlanned: Boolean(view.transmission) }),
      (error) => setAnswer({ name, problem: error.status === 404 ? GONE : "The radio view could not be fetched." }));
  }, [number, name]);
  const { radio: found, isPlanned, problem } = number !== null && answer.name === name ? answer : {};
  return html`<label>camera <select data-testid="radio-camera" value=${name} onChange=${(event) => choose(event.target.value)}>
      ${names.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
    ${number === null && round?.is_over && html`<p class="quiet">No view of ${name} in this round.</p>`}
    ${problem && html`<p class="quiet">${problem}</p>`}
    ${found?.plan && html`<${Plan} found=${found.plan} patch=${patch} />`}
    ${found?.constellation && html`<${Constellation} found=${found.constellation} patch=${patch} />`}
    ${found && !found.plan && isPlanned && html`<p class="quiet" data-testid="channel-changed">${CHANGED}</p>`}
    ${found && !found.constellation && (found.plan || !isPlanned) && html`<p class="quiet" data-testid="no-constellation">No symbols here: ${found.plan
      ? "blocks are taken as coded. The channel mimo-ofdm with coding uncoded has a constellation."
      : "this channel carries bits. The channels awgn, rayleigh and mimo-ofdm with coding uncoded have a constellation, mimo-ofdm and finite-blocklength (preset mimo) have plans."}</p>`}`;
}

function Plan({ found, patch }) {
  const block = found.patch.indexOf(patch);
  const late = found.air_ms.filter((each) => each === null).length;
  const mean = found.block.reduce((sum, each) => sum + found.power[each], 0) / found.block.length;
  const importance = found.block.map((each) => found.attention[each]);
  return html`<p>${found.method} at ${short(found.snr_db)} dB, ${found.subcarriers} subcarriers × ${found.streams} streams, ${found.patch.length} blocks; T<sub>d</sub> ${found.t_d_ms === null ? "infinite" : ms(found.t_d_ms)}, planned${" "}
      ${found.planned_t_d_ms === null ? "infinite" : ms(found.planned_t_d_ms)}${late ? `; ${late} blocks never get through` : ""}</p>
    <${Strip} title="gain λ of each subchannel" found=${found} values=${found.gains} colours=${viridis} block=${block} />
    <${Strip} title="attention a on the patch that each subchannel carries" found=${found} values=${importance} colours=${cividis} block=${block} />
    <${Bars} title="power p of each subchannel of a block; the mean of all subchannels is ${short(mean)}" found=${found} values=${found.power} block=${block} />
    <${Bars} title="time on the air of each block" found=${found} values=${found.air_ms} unit="ms" line=${found.t_d_ms} block=${block} />
    <p class="quiet">Blocks stand in the order of attention, the most important first. Point at a subchannel or a block, or move over them
      with the arrow keys, to see its patch in the tiles.</p>`;
}

// Subchannels as a strip of colours, a column a subcarrier and a row a stream; those of a block are marked.
function Strip({ title, found, values, colours, block }) {
  const canvas = useRef();
  const [place, go] = useState(null);
  const { subcarriers, streams } = found;
  const most = largest(values);
  useEffect(() => {
    const context = canvas.current.getContext("2d");
    const pixels = context.createImageData(subcarriers, streams);
    values.forEach((value, number) => {
      const shade = 3 * Math.round(255 * (most ? Math.sqrt(value / most) : 0));
      const at = 4 * ((number % streams) * subcarriers + Math.floor(number / streams));
      const isMarked = found.block[number] === block;
      pixels.data.set(isMarked ? [255, 255, 255, 255] : [colours[shade], colours[shade + 1], colours[shade + 2], 255], at);
    });
    context.putImageData(pixels, 0, 0);
  }, [values, block]);
  const number = place && place[0] * streams + place[1];
  const reach = (column, row) => {
    go([column, row]);
    set({ patch: found.patch[found.block[column * streams + row]] });
  };
  const leave = () => {
    go(null);
    set({ patch: null });
  };
  const reading = place && number < values.length
    ? `subcarrier ${place[0]}, stream ${place[1] + 1}: ${short(values[number])}, of patch ${found.patch[found.block[number]]}` : "";
  const scale = html`<span class="scale"><span>0</span><span class="colours" style=${{ backgroundImage: gradient(colours) }}></span><span>${short(most)}</span></span>`;
  return html`<${Plot} title=${html`${title} ${scale}`} x=${["subcarrier", "0", String(subcarriers - 1)]} y=${["", streams > 1 ? `stream ${streams}` : "", "stream 1"]} shown=${found} reading=${reading}>
    <canvas ref=${canvas} class="strip" aria-label="${title}, up to ${short(most)}" width=${subcarriers} height=${streams}
      style=${{ height: `${ROW * streams}px` }} ...${pointing(subcarriers, streams, place, reach, leave)}></canvas>
  <//>`;
}

function Bars({ title, found, values, unit = "", line = null, block }) {
  const canvas = useRef();
  const isDark = useTheme();
  const order = found.attention.map((_, number) => number).sort((a, b) => found.attention[b] - found.attention[a]);
  const most = Math.max(largest(values.map((value) => value ?? 0)), line ?? 0) || 1;
  useEffect(() => {
    const context = canvas.current.getContext("2d");
    context.clearRect(0, 0, BARS.width, BARS.height);
    const width = BARS.width / order.length;
    order.forEach((number, at) => {
      const value = values[number];
      const height = value === null ? BARS.height : (BARS.height * value) / most;
      context.fillStyle = value === null ? LATE : number === block ? colour("--ink") : "#0072b2";
      context.fillRect(at * width, BARS.height - height, Math.max(width - 0.5, 0.5), height);
    });
    if (line) {
      context.fillStyle = LATE;
      context.fillRect(0, BARS.height - (BARS.height * line) / most, BARS.width, 2);
    }
  }, [values, block, isDark]);
  const told = (value) => (value === null ? "never through" : `${short(value)} ${unit}`.trim());
  const name = line ? html`${title}; the line is at T<sub>d</sub> = ${told(line)}` : title;
  const place = block >= 0 ? [order.indexOf(block), 0] : null;
  const reach = (column) => set({ patch: found.patch[order[column]] });
  return html`<${Plot} title=${name} x=${["blocks", "most attention", "least attention"]} y=${["", "0", told(most)]} shown=${found}
      reading=${block >= 0 ? `patch ${found.patch[block]}, block ${place[0] + 1} of ${order.length}: ${told(values[block])}` : ""}>
    <canvas ref=${canvas} class="bars" aria-label="${title}, up to ${told(most)}${line ? `; T_d ${told(line)}` : ""}" width=${BARS.width} height=${BARS.height}
      ...${pointing(order.length, 1, place, reach, () => set({ patch: null }))}></canvas>
  <//>`;
}
