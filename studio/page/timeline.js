// Timeline: bits, flips, latency and confidence of all cameras over the rounds, and accuracy where it is known what is
// to be seen; any round can be opened.

import { useDraft } from "./draft.js";
import { html, useEffect, useMemo, useRef } from "./vendor/htm-preact.js";
import { open, set } from "./store.js";
import { compact } from "./numbers.js";
import { colour, useTheme } from "./theme.js";
import { inTurn, notAnyMore } from "./turns.js";

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
  const wanted = inLowerCase(label);
  const rows = wanted ? [...ROWS, ACCURACY] : ROWS;
  const known = useMemo(() => [...new Set(rounds.flatMap((round) => Object.values(round.views).map((view) => view.name)))], [rounds]);
  const newest = Math.max(rounds.at(-1)?.number ?? 0, shown ?? 0);
  const oldest = rounds[0]?.number ?? 0;
  const [draft, move, give] = useDraft(open);
  return html`<section class="panel timeline" data-testid="timeline" aria-label="timeline">
    <h2>Timeline</h2>
    <div class="legend">${names.map((name, number) => html`<span key=${name}><span class="line" style=${stroke(number)}></span>${name}</span>`)}</div>
    <div class="charts">${rows.map((row) => html`<${Chart} key=${row.key} row=${row} rounds=${rounds} names=${names} label=${wanted} />`)}</div>
    <label class="scrub">what is to be seen <input list="labels" data-testid="label" value=${label} placeholder="class, where it is known"
      onInput=${(event) => set({ label: event.target.value })} /></label>
    ${wanted && !known.some((name) => inLowerCase(name) === wanted) && html`<p class="quiet" role="status" data-testid="not-named">no view of
      these rounds was taken for “${label}”: an accuracy of 0, if the server has a class of exactly this name</p>`}
    <datalist id="labels">${known.map((name) => html`<option key=${name} value=${name}></option>`)}</datalist>
    <label class="scrub">round <input type="range" data-testid="scrub" min=${oldest} max=${Math.max(newest, oldest + 1)} value=${draft ?? shown ?? newest}
      disabled=${rounds.length < 2} onInput=${(event) => move(Number(event.target.value))}
      onChange=${(event) => give(Number(event.target.value))} />
      <output>${draft ?? shown ?? "–"} of ${newest}</output></label>
  </section>`;
}

const inLowerCase = (name) => name.trim().toLowerCase();

function stroke(number) {
  return { borderTopColor: COLOURS[number % 4], borderTopStyle: number < 4 ? "solid" : "dashed" };
}

// Drawn anew when a round is over, in turn with the other charts, and only while it is in view.
function Chart({ row, rounds, names, label }) {
  const place = useRef();
  const drawn = useRef({}); // the chart, what it is to show, whether it is in view
  const cameras = names.join();
  const isDark = useTheme();
  useEffect(() => {
    const made = new uPlot(options(row, names, place.current.clientWidth), table(row, rounds, names, label), place.current);
    drawn.current = { chart: made, isSeen: true };
    const watcher = new ResizeObserver(([entry]) => made.setSize({ width: entry.contentRect.width, height: HEIGHT }));
    watcher.observe(place.current);
    const seen = new IntersectionObserver((entries) => {
      drawn.current.isSeen = entries.at(-1).isIntersecting;
      catchUp(drawn.current);
    });
    seen.observe(place.current);
    made.over.addEventListener("click", () => made.cursor.idx !== null && open(made.data[0][made.cursor.idx]));
    return () => {
      watcher.disconnect();
      seen.disconnect();
      notAnyMore(made);
      made.destroy();
    };
  }, [cameras, isDark]);
  useEffect(() => {
    drawn.current.table = () => table(row, rounds, names, label);
    catchUp(drawn.current);
  }, [rounds, label, cameras]);
  return html`<div class="chart"><h3>${row.title}${row.unit && `, ${row.unit}`}</h3><div ref=${place}></div></div>`;
}

function catchUp(drawn) {
  if (!drawn.isSeen || !drawn.table) return;
  const { chart, table } = drawn;
  drawn.table = null;
  inTurn(chart, () => chart.setData(table()));
}

function table(row, rounds, names, label) {
  const of = row === ACCURACY ? (name) => accuracy(rounds, name, label) : (name) => rounds.map((round) => round.views[name]?.[row.key] ?? null);
  return [rounds.map((round) => round.number), ...names.map(of)];
}

// Share of a camera's last views that were taken for what they show; label: in lower case.
function accuracy(rounds, name, label) {
  const right = rounds.map(({ views }) => views[name] && inLowerCase(views[name].name) === label);
  return right.map((_, at) => {
    const known = right.slice(Math.max(0, at + 1 - ROUNDS), at + 1).filter((each) => each !== undefined);
    return known.length ? known.filter(Boolean).length / known.length : null;
  });
}

function options(row, names, width) {
  const grid = colour("--edge");
  const axis = { stroke: colour("--quiet"), grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px system-ui" };
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
