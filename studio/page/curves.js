// Accuracy curves of the committed evaluation, with their intervals, and the reader's operating points on them.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { ask } from "./server.js";
import { compact } from "./numbers.js";

const COLOURS = ["#0072b2", "#d55e00"];
const HEIGHT = 220;

export function Curves({ sides, ber }) {
  const [curves, setCurves] = useState([]);
  const place = useRef();
  useEffect(() => { ask("GET", "v1/curves").then(setCurves, () => {}); }, []);
  const found = sides.map((side) => nearest(curves, side.curve, ber));
  const about = found.find(Boolean);
  const key = JSON.stringify([found.map((curve) => [curve?.method, curve?.ber]), sides.map((side) => side.bits_on_air.uplink)]);
  useEffect(() => {
    if (!about) return undefined;
    const chart = new uPlot(options(sides, found, place.current.clientWidth), table(found), place.current);
    const watcher = new ResizeObserver(([entry]) => chart.setSize({ width: entry.contentRect.width, height: HEIGHT }));
    watcher.observe(place.current);
    return () => {
      watcher.disconnect();
      chart.destroy();
    };
  }, [key]);
  if (!about) return html`<p class="quiet">no curve of these links was committed</p>`;
  return html`<figure class="curves" data-testid="curves"><div ref=${place}></div><figcaption>
    accuracy over bits on air, 95 % intervals; ${found.map((curve, side) => curve && html`<span key=${side}><span class="line" style=${{ borderTopColor: COLOURS[side] }}></span>
    ${curve.method} at μ = ${curve.ber} </span>`)}; ${about.images} photographs of ${about.data}, server ${about.server};
    vertical lines: the two links now</figcaption></figure>`;
}

// Of a method, the curve that was measured at the error rate nearest to this one.
function nearest(curves, method, ber) {
  const known = curves.filter((curve) => curve.method === method);
  return known.sort((a, b) => Math.abs(a.ber - ber) - Math.abs(b.ber - ber))[0];
}

function table(found) {
  const points = [...new Set(found.flatMap((curve) => curve?.points.map((point) => point.bits) ?? []))].sort((a, b) => a - b);
  const column = (curve, key) => points.map((at) => curve?.points.find((point) => point.bits === at)?.[key] ?? null);
  return [points, ...found.map((curve) => column(curve, "accuracy"))];
}

function options(sides, found, width) {
  const style = getComputedStyle(document.documentElement);
  const axis = { stroke: style.getPropertyValue("--quiet"), grid: { stroke: style.getPropertyValue("--edge"), width: 1 }, font: "11px system-ui" };
  const series = COLOURS.map((stroke) => ({ stroke, width: 2, spanGaps: true, points: { show: true, size: 6 } }));
  return {
    width: Math.max(width, 200),
    height: HEIGHT,
    legend: { show: false },
    scales: {
      x: { time: false, distr: 3, range: (_, low, high) => [Math.min(low, ...bitsOf(sides)) * 0.8, Math.max(high, ...bitsOf(sides)) * 1.2] },
      y: { range: [0, 1] },
    },
    axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : compact(tick))) }, { ...axis, size: 40 }],
    series: [{}, ...series],
    hooks: { draw: [(chart) => intervals(chart, found), (chart) => mark(chart, sides)] },
  };
}

const bitsOf = (sides) => sides.map((side) => Math.max(side.bits_on_air.uplink, 1));

function intervals(chart, found) {
  const { ctx: pen } = chart;
  for (const [side, curve] of found.entries()) {
    for (const { bits: at, low, high } of curve?.points ?? []) {
      pen.fillStyle = COLOURS[side];
      const [x, top, bottom] = [chart.valToPos(at, "x", true), chart.valToPos(high, "y", true), chart.valToPos(low, "y", true)];
      pen.fillRect(x - devicePixelRatio, top, 2 * devicePixelRatio, Math.max(bottom - top, 1));
    }
  }
}

function mark(chart, sides) {
  const { ctx: pen, bbox } = chart;
  for (const [side, at] of bitsOf(sides).entries()) {
    const x = chart.valToPos(at, "x", true);
    pen.save();
    pen.strokeStyle = COLOURS[side];
    pen.lineWidth = 2 * devicePixelRatio;
    pen.setLineDash(side ? [6, 4] : []);
    pen.beginPath();
    pen.moveTo(x, bbox.top);
    pen.lineTo(x, bbox.top + bbox.height);
    pen.stroke();
    pen.restore();
  }
}
