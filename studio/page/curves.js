// Accuracy curves of the committed evaluation, with their intervals, and the two links' operating points on them.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { again } from "./again.js";
import { ask } from "./server.js";
import { bits, compact, short } from "./numbers.js";
import { colour, useTheme } from "./theme.js";

const COLOURS = ["#0072b2", "#d55e00"];
const NAMES = ["left", "right"];
const HEIGHT = 220;
const POINT = 6; // pixels from the middle of a link's point to its edge

export function Curves({ sides }) {
  const [curves, setCurves] = useState(null);
  const place = useRef();
  const isDark = useTheme();
  useEffect(() => again(() => ask("GET", "v1/curves"), setCurves), []);
  const found = sides.map((side) => nearest(curves ?? [], side));
  const points = sides.map((side, at) => found[at] && pointOf(found[at], side.bits_on_air.uplink));
  const about = found.find(Boolean);
  const key = JSON.stringify([found.map((curve) => [curve?.method, curve?.ber]), bitsOf(sides)]);
  useEffect(() => {
    if (!about) return undefined;
    const chart = new uPlot(options(sides, found, points, place.current.clientWidth), table(found), place.current);
    const watcher = new ResizeObserver(([entry]) => chart.setSize({ width: entry.contentRect.width, height: HEIGHT }));
    watcher.observe(place.current);
    return () => {
      watcher.disconnect();
      chart.destroy();
    };
  }, [key, isDark]);
  return html`<figure class="curves" data-testid="curves">${about && html`<div ref=${place} key="chart"></div>`}<figcaption>
    ${sides.map((side, at) => html`<p key=${NAMES[at]} data-testid="point-${NAMES[at]}">${found[at] && html`<span class="line" style=${{ borderTopColor: COLOURS[at] }}></span> `}
      ${NAMES[at]}: ${curves ? told(side, found[at], points[at]) : "the committed curves are not here yet"}</p>`)}
    ${about && html`Accuracy over bits on air, 95 % intervals; photographs of ${about.data}, server ${about.server}; here: ${sides[0].model}.
      Lines and squares: the two links now.`}</figcaption></figure>`;
}

// Of a link's method, the curve that was measured at the error rate nearest to the one that it meets; if there are
// any that go through its number of bits, of these.
function nearest(curves, side) {
  if (side.ber === null) return undefined;
  const known = curves.filter((curve) => curve.method === side.curve);
  const through = known.filter((curve) => pointOf(curve, side.bits_on_air.uplink));
  return (through.length ? through : known).sort((a, b) => Math.abs(a.ber - side.ber) - Math.abs(b.ber - side.ber))[0];
}

// Accuracy and its interval between two measured points, by the logarithm of the bits; null outside of them.
function pointOf({ points }, at) {
  const above = points.findIndex((point) => point.bits >= at);
  if (above < 0) return null;
  if (points[above].bits === at) return points[above];
  if (above === 0) return null;
  const [from, to] = [points[above - 1], points[above]];
  const way = Math.log(at / from.bits) / Math.log(to.bits / from.bits);
  const between = (name) => from[name] + way * (to[name] - from[name]);
  return { bits: at, accuracy: between("accuracy"), low: between("low"), high: between("high") };
}

function told(side, curve, point) {
  const spent = bits(side.bits_on_air.uplink);
  if (side.ber === null) return `no curve was committed over ${side.over}`;
  if (!curve) return "no curve was committed of this link's method and settings";
  const where = `${curve.method} at μ = ${curve.ber}`;
  const ends = [curve.points[0], curve.points.at(-1)].map((each) => bits(each.bits));
  const measured = ends[0] === ends[1] ? `at ${ends[0]} alone` : `from ${ends[0]} to ${ends[1]}`;
  const met = near(curve.ber, side.ber) ? "" : `, the nearest that was measured to μ = ${short(side.ber)} here`;
  const kind = ["bsc", "none"].includes(side.over) ? "" : `; with errors as of bsc, not of ${side.over}`;
  if (!point) return `${where}${met} was measured ${measured}: not at ${spent}${kind}`;
  const share = (value) => Math.round(100 * value);
  return `with ${spent}, ${where} was right for ${share(point.accuracy)} % (${share(point.low)} to ${share(point.high)}) of ${curve.images} photographs${met}${kind}`;
}

const near = (one, other) => Math.abs(one - other) <= 0.1 * Math.max(one, other);

function table(found) {
  const points = [...new Set(found.flatMap((curve) => curve?.points.map((point) => point.bits) ?? []))].sort((a, b) => a - b);
  const column = (curve, key) => points.map((at) => curve?.points.find((point) => point.bits === at)?.[key] ?? null);
  return [points, ...found.map((curve) => column(curve, "accuracy"))];
}

function options(sides, found, points, width) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--edge"), width: 1 }, font: "11px system-ui" };
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
    hooks: { draw: [(chart) => found.forEach((curve, side) => curve?.points.forEach((point) => interval(chart, side, point))),
      (chart) => sides.forEach((_, side) => mark(chart, side, bitsOf(sides)[side], points[side]))] },
  };
}

const bitsOf = (sides) => sides.map((side) => Math.max(side.bits_on_air.uplink, 1));

function interval(chart, side, { bits: at, low, high }) {
  const { ctx: pen } = chart;
  pen.fillStyle = COLOURS[side];
  const [x, top, bottom] = [chart.valToPos(at, "x", true), chart.valToPos(high, "y", true), chart.valToPos(low, "y", true)];
  pen.fillRect(x - devicePixelRatio, top, 2 * devicePixelRatio, Math.max(bottom - top, 1));
}

// A line at a link's bits, and where it crosses the curve, a square with its interval.
function mark(chart, side, at, point) {
  const { ctx: pen, bbox } = chart;
  const x = chart.valToPos(at, "x", true);
  pen.save();
  pen.strokeStyle = COLOURS[side];
  pen.lineWidth = 2 * devicePixelRatio;
  pen.setLineDash(side ? [6, 4] : []);
  pen.beginPath();
  pen.moveTo(x, bbox.top);
  pen.lineTo(x, bbox.top + bbox.height);
  pen.stroke();
  pen.setLineDash([]);
  if (point) {
    interval(chart, side, point);
    const [y, half] = [chart.valToPos(point.accuracy, "y", true), POINT * devicePixelRatio];
    pen.fillStyle = colour("--panel");
    pen.fillRect(x - half, y - half, 2 * half, 2 * half);
    pen.strokeRect(x - half, y - half, 2 * half, 2 * half);
  }
  pen.restore();
}
