// Radio view over MIMO-OFDM: what each subchannel is worth, which patch it carries, power and finishing time of blocks.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { cividis, viridis } from "./colormaps.js";
import { largest } from "./maps.js";
import { ms, short } from "./numbers.js";
import { ask } from "./server.js";
import { set } from "./store.js";

const ROW = 18;
const BARS = { width: 600, height: 110 };

export function Radio({ round, names, patch }) {
  const [isOpen, open] = useState(false);
  return html`<details class="panel radio" data-testid="radio" onToggle=${(event) => open(event.target.open)}>
    <summary>Radio view</summary>${isOpen && html`<${View} round=${round} names=${names} patch=${patch} />`}</details>`;
}

function View({ round, names, patch }) {
  const [name, choose] = useState(names[0]);
  const [found, setFound] = useState(null);
  const view = round?.views[name];
  const settled = view?.transmission && round.is_over ? round.number : null;
  useEffect(() => {
    let isCurrent = true;
    if (settled === null) return undefined;
    ask("GET", `v1/rounds/${settled}/radio/${name}`).then((radio) => isCurrent && setFound(radio), () => isCurrent && setFound(null));
    return () => { isCurrent = false; };
  }, [settled, name]);
  return html`<label>camera <select data-testid="radio-camera" value=${name} onChange=${(event) => choose(event.target.value)}>
      ${names.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
    ${view && !view.transmission && html`<p class="quiet">Frames travel under no plan: take the channel mimo-ofdm or finite-blocklength (preset mimo).</p>`}
    ${found && view?.transmission && html`<${Radios} found=${found} patch=${patch} />`}`;
}

function Radios({ found, patch }) {
  const block = found.patch.indexOf(patch);
  const late = found.air_ms.filter((each) => each === null).length;
  const importance = found.block.map((each) => found.attention[each]);
  return html`<p>${found.method} at ${short(found.snr_db)} dB, ${found.subcarriers} subcarriers × ${found.streams} streams,
      ${found.patch.length} blocks; T<sub>d</sub> ${found.t_d_ms === null ? "infinite" : ms(found.t_d_ms)}, planned
      ${found.planned_t_d_ms === null ? " infinite" : ` ${ms(found.planned_t_d_ms)}`}${late ? `; ${late} blocks never get through` : ""}</p>
    <${Strip} title="gain λ of each subchannel, up to ${short(largest(found.gains))}" found=${found} values=${found.gains} colours=${viridis} block=${block} />
    <${Strip} title="attention on the patch that it carries, up to ${short(largest(importance))}" found=${found} values=${importance} colours=${cividis} block=${block} />
    <${Bars} title="power of each subchannel of a block" found=${found} values=${found.power} unit="" block=${block} />
    <${Bars} title="time on the air of each block" found=${found} values=${found.air_ms} unit="ms" line=${found.t_d_ms} block=${block} />
    <p class="quiet">Blocks stand in the order of attention, the most important first. Point at a subchannel or a block to see its patch in the tiles.</p>`;
}

// Subchannels as a strip of colours, a column a subcarrier and a row a stream; those of a block are marked.
function Strip({ title, found, values, colours, block }) {
  const canvas = useRef();
  const { subcarriers, streams } = found;
  useEffect(() => {
    const context = canvas.current.getContext("2d");
    const pixels = context.createImageData(subcarriers, streams);
    const most = largest(values);
    values.forEach((value, number) => {
      const colour = 3 * Math.round(255 * (most ? Math.sqrt(value / most) : 0));
      const at = 4 * ((number % streams) * subcarriers + Math.floor(number / streams));
      const isMarked = found.block[number] === block;
      pixels.data.set(isMarked ? [255, 255, 255, 255] : [colours[colour], colours[colour + 1], colours[colour + 2], 255], at);
    });
    context.putImageData(pixels, 0, 0);
  }, [values, block]);
  const point = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const column = Math.min(subcarriers - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * subcarriers)));
    const row = Math.min(streams - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * streams)));
    set({ patch: found.patch[found.block[column * streams + row]] });
  };
  return html`<figure><canvas ref=${canvas} class="strip" role="img" aria-label=${title} width=${subcarriers} height=${streams}
      style=${{ height: `${ROW * streams}px` }} onPointerMove=${point} onPointerLeave=${() => set({ patch: null })}></canvas>
    <figcaption>${title}; a row a stream, a column a subcarrier</figcaption></figure>`;
}

function Bars({ title, found, values, unit, line, block }) {
  const canvas = useRef();
  const order = found.attention.map((_, number) => number).sort((a, b) => found.attention[b] - found.attention[a]);
  const most = Math.max(largest(values.map((value) => value ?? 0)), line ?? 0) || 1;
  useEffect(() => {
    const context = canvas.current.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    context.clearRect(0, 0, BARS.width, BARS.height);
    const width = BARS.width / order.length;
    order.forEach((number, at) => {
      const value = values[number];
      const height = value === null ? BARS.height : (BARS.height * value) / most;
      context.fillStyle = value === null ? "#d55e00" : number === block ? style.getPropertyValue("--ink") : "#0072b2";
      context.fillRect(at * width, BARS.height - height, Math.max(width - 0.5, 0.5), height);
    });
    if (line) {
      context.fillStyle = "#d55e00";
      context.fillRect(0, BARS.height - (BARS.height * line) / most, BARS.width, 2);
    }
  }, [values, block]);
  const point = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const at = Math.floor(((event.clientX - box.left) / box.width) * order.length);
    set({ patch: found.patch[order[Math.min(order.length - 1, Math.max(0, at))]] });
  };
  return html`<figure><canvas ref=${canvas} class="bars" role="img" aria-label=${title} width=${BARS.width} height=${BARS.height}
      onPointerMove=${point} onPointerLeave=${() => set({ patch: null })}></canvas>
    <figcaption>${title}, up to ${short(most)} ${unit}${line ? "; the line is at T" : ""}${line ? html`<sub>d</sub>` : null}</figcaption></figure>`;
}
