// Constellation: symbols as they arrived, over the points of their grid; those that a decision gets wrong are crosses.

import { html, useEffect, useRef } from "./vendor/htm-preact.js";
import { percent, short, whole } from "./numbers.js";
import { Plot } from "./plots.js";
import { colour, useTheme } from "./theme.js";

const SIDE = 640;
const OF_NO_GRID = 3;

export function Constellation({ found, patch }) {
  const canvas = useRef();
  const isDark = useTheme();
  const { order, total, snr_db, in_phase, quadrature, wrong } = found;
  const shown = in_phase.length;
  const reach = reached(found.amplitudes);
  const outside = in_phase.filter((value, at) => Math.max(Math.abs(value), Math.abs(quadrature[at])) > reach).length;
  const marked = new Set(found.patch ? found.patch.flatMap((each, at) => (each === patch ? [at] : [])) : []);
  useEffect(() => draw(canvas.current, found, reach, marked), [found, patch, isDark]);
  const name = order ? `${order}-QAM` : "symbols of no grid, made by networks";
  const count = `${whole(shown)} of ${whole(total)} symbols of the frame`;
  const decided = order ? `; ${whole(wrong.length)} (${percent(wrong.length / shown)}) nearer to another point than was sent` : "";
  const title = `constellation of what arrived: ${name} at ${snr_db === null ? "unknown SNR" : `${short(snr_db)} dB`}, ${count}${decided}`;
  const told = `${outside ? `${whole(outside)} lie outside and are drawn at the edge. ` : ""}${marked.size ? `Of patch ${patch}: ${whole(marked.size)} symbols, ${whole([...marked].filter((at) => wrong.includes(at)).length)} of them wrong.` : ""}`;
  const reading = html`<p class="keys"><span><span class="key arrived"></span>dots: as they arrived</span>
      ${order ? html`<span><span class="key wrong"></span>crosses: nearer to another point</span><span>small circles: points of the grid</span>` : null}
      ${found.patch ? html`<span>large circles: of the outlined patch</span>` : null}<span>E: mean energy of a sent symbol</span></p>
    <p>${told}</p>`;
  return html`<${Plot} title=${title} x=${["in phase / √E", short(-reach), short(reach)]} y=${["quadrature / √E", short(-reach), short(reach)]}
      reading=${reading} class="plot square" data-testid="constellation" data-symbols=${shown} data-order=${order} data-wrong=${wrong.length} data-marked=${marked.size}>
    <canvas ref=${canvas} class="scatter" role="img" aria-label=${title} width=${SIDE} height=${SIDE}></canvas>
  <//>`;
}

// How far the axes reach: two steps of the grid beyond its outermost points.
function reached(amplitudes) {
  if (!amplitudes.length) return OF_NO_GRID;
  return Number((amplitudes.at(-1) + amplitudes[1] - amplitudes[0]).toPrecision(2));
}

function draw(canvas, { in_phase, quadrature, wrong, amplitudes }, reach, marked) {
  const context = canvas.getContext("2d");
  const [ink, edge, right, other] = ["--ink", "--edge", "--arrived", "--wrong"].map(colour);
  const at = (value) => (SIDE * (Math.min(reach, Math.max(-reach, value)) + reach)) / (2 * reach);
  context.clearRect(0, 0, SIDE, SIDE);
  context.lineWidth = 2;
  context.strokeStyle = edge;
  for (const between of [0, ...amplitudes.slice(1).map((each, number) => (each + amplitudes[number]) / 2)]) {
    line(context, at(between), 0, at(between), SIDE);
    line(context, 0, at(between), SIDE, at(between));
  }
  const isWrong = new Set(wrong);
  in_phase.forEach((value, number) => {
    if (value === null) return;
    const [x, y] = [at(value), at(-quadrature[number])];
    if (isWrong.has(number)) {
      context.strokeStyle = other;
      line(context, x - 5, y - 5, x + 5, y + 5);
      line(context, x - 5, y + 5, x + 5, y - 5);
    } else {
      context.fillStyle = right;
      context.globalAlpha = 0.6;
      disc(context, x, y, 3.5).fill();
      context.globalAlpha = 1;
    }
  });
  context.strokeStyle = ink;
  for (const number of marked) disc(context, at(in_phase[number]), at(-quadrature[number]), 9).stroke();
  context.lineWidth = 1.5;
  for (const x of amplitudes) for (const y of amplitudes) disc(context, at(x), at(y), 5).stroke();
}

function line(context, fromX, fromY, toX, toY) {
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(toX, toY);
  context.stroke();
}

function disc(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  return context;
}
