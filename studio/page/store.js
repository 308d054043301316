// Store: the state of the page, changed by the studio's events and by its reader, and who is to be told.

import { ask, follow, Refused } from "./server.js";
import { isSameChannel, knobsIn, others, writeAddress } from "./address.js";

const AGAIN_MS = 1000; // until the studio is asked again what its knobs are
const PACE = ["running", "frozen", "every"]; // settings after which no pictures follow

let wanted = null; // what the address says of the channel, until there is an emulator that has taken it
let isGiven = false; // it is on its way
let isApplied = false; // all that the address says was asked for: from then on it says what holds

export const state = {
  run: null, // of the studio: another one each time that it is started
  connection: "lost",
  why: "", // it is lost, where the studio says so
  knobs: null, // as GET /v1/knobs describes them
  presets: [],
  settings: null,
  channel: { impairments: null, scenario: null, events: [] },
  processes: [],
  rounds: [], // summaries, oldest first
  current: null, // the newest round
  opened: null, // an older one that is looked at
  turned: null, // when a knob was turned whose pictures are awaited, in ms
  awaited: null, // number of the round that brings them
  lag: null, // {ms, stages, round}: from the last turn of a knob to its pictures, of this round, and the stages that these report
  patch: null, // number of the patch under the pointer
  pinned: null, // {name, patch, opener}: the camera's patch whose arithmetic is shown, and the element that it was pointed at on
  panels: { picture: true, attention: true, bits: true, arrived: true, sent: false, flips: false },
  opacity: 0.75,
  label: "", // what is to be seen, where the reader knows
  scope: "default", // whose channel the knobs are of
  compare: null, // which links are compared: {left, right, camera, equal_bits}
  problem: "",
};

let tell = () => {};
let asked = false;

export function changed() {
  if (!asked) {
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      tell();
    });
  }
}

export function set(changes) {
  Object.assign(state, changes);
  changed();
}

let looks = 0; // at rounds: of a look that another one followed, a late answer is not shown

function toNewest() {
  looks += 1;
  state.opened = null;
}

export const shown = () => state.opened ?? state.current;

export async function start(listener) {
  tell = listener;
  follow(hear, (connection, why = "") => (state.connection !== connection || state.why !== why) && set({ connection, why }));
  // The event's address: the page's own may have been written again meanwhile.
  addEventListener("hashchange", ({ newURL }) => state.knobs && applyAddress(newURL).catch((error) => set({ problem: reason(error) })));
}

function hear(kind, data) {
  handlers[kind]?.(data);
  changed();
}

const handlers = {
  state(data) {
    const isAnother = state.run !== data.run; // the first, or one that was started anew
    const more = isAnother && state.settings?.running ? { running: true } : {};
    take(data.settings);
    Object.assign(state, {
      channel: heard(data.channel), processes: data.processes, rounds: data.rounds,
      current: data.round && numbered(data.round),
    });
    if (isAnother) begin(data.run, more);
    loadPresets();
    giveImpairments();
  },
  settings(data) {
    take(data.settings);
    remember();
  },
  channel(data) {
    state.channel = heard(data);
    remember();
    loadPresets();
    giveImpairments();
  },
  process(data) {
    const isKnown = state.processes.some((each) => each.name === data.name);
    state.processes = isKnown ? state.processes.map((each) => (each.name === data.name ? data : each)) : [...state.processes, data];
  },
  processes(data) {
    state.processes = data.processes;
  },
  round(data) {
    // Until a view is answered, the tile shows the one before; so does the vote.
    const before = state.current;
    const stale = { views: { ...before?.stale?.views, ...before?.views }, vote: before?.vote ?? before?.stale?.vote };
    state.current = { ...numbered(data.round), stale };
    if (state.turned !== null) state.awaited = data.round.number;
  },
  view(data) {
    const { current } = state;
    if (current?.number !== data.round) return;
    const before = current.views[data.camera] ?? current.stale?.views[data.camera];
    const view = { ...data.view, maps: shared(data.view.maps, before?.maps), round: data.round, settings: current.settings };
    state.current = { ...current, views: { ...current.views, [data.camera]: view } };
  },
  vote(data) {
    if (state.current?.number === data.round) state.current = { ...state.current, vote: data.vote };
  },
  failed(data) {
    const { current } = state;
    if (current?.number === data.round) state.current = { ...current, failures: { ...current.failures, [data.camera]: data.reason } };
  },
  over(data) {
    if (state.current?.number === data.round) state.current = { ...state.current, is_over: true, changed: data.changed, identical: data.identical, why: data.why };
    const known = state.rounds.findIndex((each) => each.number === data.round);
    if (known >= 0) state.rounds[known] = data.summary;
    else state.rounds.push(data.summary);
    state.rounds = state.rounds.filter((each) => each.number >= data.oldest); // older ones are held no longer
  },
};

// Settings, and whose knobs and pictures are looked at: of a camera that there is.
function take(settings) {
  const { scope, compare } = state;
  const isThere = (camera) => camera <= settings.cameras;
  Object.assign(state, {
    settings,
    scope: scope === "default" || isThere(Number(scope.replace("camera-", ""))) ? scope : "default",
    compare: !compare || isThere(compare.camera) ? compare : { ...compare, camera: 1 },
  });
}

// When a scenario's position was heard of, from which on it goes by itself.
function heard(channel) {
  if (channel.scenario) channel.scenario.heard = performance.now();
  return channel;
}

// Maps that are as they were stay the same objects: what shows them need not be drawn again.
function shared(maps, before = {}) {
  const isSame = (name) => before[name]?.length === maps[name].length && maps[name].every((value, at) => value === before[name][at]);
  return Object.fromEntries(Object.keys(maps).map((name) => [name, isSame(name) ? before[name] : maps[name]]));
}

// Every view says which round it is of, and what was set.
function numbered(round) {
  for (const view of Object.values(round.views)) Object.assign(view, { round: round.number, settings: round.settings });
  return round;
}

async function loadPresets() {
  if (state.presets.length || !state.channel.impairments) return;
  try {
    state.presets = await ask("GET", "v1/channel/presets");
    changed();
  } catch {
    // The emulator still starts: asked again when it tells of its channel.
  }
}

function remember() {
  if (isApplied && wanted === null) writeAddress(state);
}

// With a studio that begins: its knobs, asked for until it answers, then what the address says.
async function begin(run, more) {
  isApplied = false;
  toNewest();
  Object.assign(state, { run, turned: null, awaited: null });
  while (state.run === run && !isApplied) {
    try {
      state.knobs = await ask("GET", "v1/knobs");
      await applyAddress(location.href, more);
    } catch (error) {
      set({ problem: reason(error) });
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }
}

async function applyAddress(address, more = {}) {
  const { settings, impairments, compare } = knobsIn(state.knobs, address);
  const changes = { ...settings, ...more };
  const method = settings ? "PUT" : "PATCH"; // what an address leaves out has its default
  wanted = impairments;
  toNewest();
  set({ problem: "" });
  const given = settings || Object.keys(more).length ? await give(method, "v1/settings", changes) : null;
  state.compare = compare;
  take(given ?? state.settings);
  await giveImpairments();
  isApplied = true;
  remember();
  changed();
}

async function giveImpairments() {
  const given = wanted;
  const { impairments } = state.channel;
  if (given === null || isGiven || !impairments) return;
  isGiven = true;
  try {
    const all = { ...given, devices: { ...others(impairments.devices), ...given.devices } };
    // A scenario that plays is paused by a change, even by one to what is.
    if (!isSameChannel(state.knobs, given, impairments)) {
      const said = await give("PUT", "v1/channel/impairments", all);
      if (said) set({ channel: { ...state.channel, impairments: said } });
    }
    if (wanted === given) wanted = null;
    remember();
  } catch {
    // The studio is away: given again when it tells of its channel.
  } finally {
    isGiven = false;
  }
  if (wanted !== null && wanted !== given) await giveImpairments();
}

export const reason = (error) => (error instanceof Refused ? error.message : "the studio does not answer");

// Asks for what the address says; why it is refused is added to what was refused before.
async function give(method, path, body) {
  try {
    return await ask(method, path, body);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    set({ problem: [state.problem, error.message].filter(Boolean).join("; ") });
    return null;
  }
}

// What is said to a command, and why it was refused, if it was.
async function command(method, path, body, type) {
  try {
    const said = await ask(method, path, body, type);
    if (state.problem) set({ problem: "" });
    return { said, why: "" };
  } catch (error) {
    set({ problem: reason(error) });
    return { said: null, why: state.problem };
  }
}

// A command after which pictures follow, unless it is refused or changed nothing.
async function turned(isChange, ...asked) {
  const when = performance.now();
  toNewest();
  Object.assign(state, { turned: when, awaited: null });
  const answer = await command(...asked);
  if ((answer.why || !isChange(answer.said)) && state.turned === when) Object.assign(state, { turned: null, awaited: null });
  return answer;
}

// Turns knobs of the link; gives why they were refused, or nothing.
export async function turn(changes) {
  const before = state.settings;
  const isChange = (after) => Object.keys(changes).some((name) => !PACE.includes(name) && after[name] !== before[name]);
  const { said, why } = await turned(isChange, "PATCH", "v1/settings", changes);
  if (said) take(said);
  changed();
  return why;
}

// Turns knobs of the channel, for all cameras that have none of their own, or for one; null: it has none of its own. Gives why
// they were refused, or nothing.
export async function turnChannel(changes, scope = state.scope) {
  const before = JSON.stringify(state.channel.impairments);
  const isChange = (after) => JSON.stringify(after) !== before;
  const patch = scope === "default" ? { default: changes } : { devices: { [scope]: changes } };
  const { said, why } = await turned(isChange, "PATCH", "v1/channel/impairments", patch);
  if (said) {
    state.channel = { ...state.channel, impairments: said };
    remember();
    changed();
  }
  return why;
}

// Compares two links, or none; the address then says so.
export function compare(wanted) {
  set({ compare: wanted });
  remember();
}

export const showPicture = (file, camera) => turned(() => true, "PUT", `v1/pictures${camera ? `?camera=${camera}` : ""}`, file, file.type);
export const forgetPictures = () => turned(() => true, "DELETE", "v1/pictures");

// Gives why it was refused, or nothing.
async function scenario(method, body, type) {
  const { said, why } = await command(method, "v1/channel/scenario", body, type);
  if (!why) set({ channel: heard({ ...state.channel, scenario: said }) });
  return why;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export function loadScenario(body, type) {
  const given = typeof body === "string" && type !== "text/csv" ? parsed(body) : body;
  return given === null ? set({ problem: "the file holds no JSON" }) : scenario("PUT", given, type);
}
export const changeScenario = (changes) => scenario("PATCH", changes);
export const removeScenario = () => scenario("DELETE");

export function step() {
  toNewest();
  changed();
  return command("POST", "v1/rounds");
}

// The last of the timeline stands for those to come as well: the page follows them again.
export async function open(number) {
  const look = ++looks;
  if (number >= (state.rounds.at(-1)?.number ?? 0)) return set({ opened: null });
  const { said } = await command("GET", `v1/rounds/${number}`);
  if (said && look === looks) set({ opened: numbered(said) });
}

export async function replay(number) {
  toNewest();
  changed();
  const { said } = await command("POST", `v1/rounds/${number}/replay`);
  if (said?.number === 0) set({ problem: `round ${number} was not played again: its channel could not be set` });
}
