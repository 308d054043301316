// Timeline: bits, flips, latency and confidence of all cameras over the rounds, and accuracy where it is known what is
// to be seen; any round can be opened.

import { html, useEffect, useRef } from "./vendor/htm-preact.js";
import { open, set } from "./store.js";
import { compact } from "./numbers.js";

const ROWS = [
  { key: "bits", title: "bits on air", unit: "bit" },
  { key: "flips", title: "bits flipped", unit: "bit" },
  { key: "ms", title: "latency", unit: "ms" },
  { key: "confidence", title: "confidence", unit: "" },
];
// Okabe and Ito's colours, which those without full colour vision tell apart; dashed from the fifth camera on.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
const HEIGHT = 130;
const ACCURACY = { key: "accuracy", title: "accuracy over the last 20 rounds", unit: "" };
const ROUNDS = 20;

export function Timeline({ rounds, names, shown, label }) {
  const rows = label ? [...ROWS, ACCURACY] : ROWS;
  const known = [...new Set(rounds.flatMap((round) => Object.values(round.views).map((view) => view.name)))];
  const newest = rounds.at(-1)?.number ?? 0;
  const oldest = rounds[0]?.number ?? 0;
  return html`<section class="panel timeline" data-testid="timeline" aria-label="timeline">
    <h2>Timeline</h2>
    <div class="legend">${names.map((name, number) => html`<span key=${name}><span class="line" style=${stroke(number)}></span>${name}</span>`)}</div>
    <div class="charts">${rows.map((row) => html`<${Chart} key=${row.key} row=${row} rounds=${rounds} names=${names} label=${label} />`)}</div>
    <label class="scrub">what is to be seen <input list="labels" data-testid="label" value=${label} placeholder="class, where it is known"
      onInput=${(event) => set({ label: event.target.value })} /></label>
    <datalist id="labels">${known.map((name) => html`<option key=${name} value=${name}></option>`)}</datalist>
    <label class="scrub">round <input type="range" data-testid="scrub" min=${oldest} max=${Math.max(newest, oldest + 1)} value=${shown?.number ?? newest}
      disabled=${rounds.length < 2} onChange=${(event) => open(Number(event.target.value))} />
      <output>${shown?.number ?? "–"} of ${newest}</output></label>
  </section>`;
}

function stroke(number) {
  return { borderTopColor: COLOURS[number % 4], borderTopStyle: number < 4 ? "solid" : "dashed" };
}

function Chart({ row, rounds, names, label }) {
  const place = useRef();
  const chart = useRef();
  const cameras = names.join();
  useEffect(() => {
    const made = new uPlot(options(row, names, place.current.clientWidth), table(row, rounds, names, label), place.current);
    chart.current = made;
    const watcher = new ResizeObserver(([entry]) => made.setSize({ width: entry.contentRect.width, height: HEIGHT }));
    watcher.observe(place.current);
    made.over.addEventListener("click", () => made.cursor.idx !== null && open(made.data[0][made.cursor.idx]));
    return () => {
      watcher.disconnect();
      made.destroy();
    };
  }, [cameras]);
  useEffect(() => chart.current?.setData(table(row, rounds, names, label)), [rounds, label]);
  return html`<div class="chart"><h3>${row.title}${row.unit && `, ${row.unit}`}</h3><div ref=${place}></div></div>`;
}

function table(row, rounds, names, label) {
  const of = row === ACCURACY ? (name) => accuracy(rounds, name, label) : (name) => rounds.map((round) => round.views[name]?.[row.key] ?? null);
  return [rounds.map((round) => round.number), ...names.map(of)];
}

// Share of a camera's last views that were taken for what they show.
function accuracy(rounds, name, label) {
  return rounds.map((_, at) => {
    const views = rounds.slice(Math.max(0, at + 1 - ROUNDS), at + 1).map((round) => round.views[name]).filter(Boolean);
    return views.length ? views.filter((view) => view.name === label).length / views.length : null;
  });
}

function options(row, names, width) {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--quiet");
  const grid = getComputedStyle(document.documentElement).getPropertyValue("--edge");
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px system-ui" };
  return {
    width: Math.max(width, 120),
    height: HEIGHT,
    legend: { show: false },
    cursor: { sync: { key: "rounds" }, drag: { x: false, y: false } },
    scales: { x: { time: false }, y: { range: (_, low, high) => (row.key === "confidence" || row === ACCURACY ? [0, 1] : [0, Math.max(high ?? 1, 1) * 1.05]) } },
    axes: [
      { ...axis, size: 28, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? tick : "")) },
      { ...axis, size: 46, values: (_, ticks) => ticks.map(compact) },
    ],
    series: [
      {},
      ...names.map((name, number) => ({
        label: name, stroke: COLOURS[number % 4], width: 1.5, dash: number < 4 ? undefined : [4, 3],
        points: { size: 4 },
      })),
    ],
  };
}
