// Store: the state of the page, changed by the studio's events and by its reader, and who is to be told.

import { ask, follow, Refused } from "./server.js";
import { knobsIn, writeAddress } from "./address.js";

const MOST_ROUNDS = 500;

export const state = {
  connection: "lost",
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
  lag: null, // {ms, stages}: from the last turn of a knob to its pictures, and the stages that these report
  patch: null, // number of the patch under the pointer
  panels: { picture: true, attention: true, bits: true, arrived: true, sent: false, flips: false },
  opacity: 0.75,
  label: "", // what is to be seen, where the reader knows
  scope: "default", // whose channel the knobs are of
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

export const shown = () => state.opened ?? state.current;

export async function start(listener) {
  tell = listener;
  follow(hear, (connection) => state.connection !== connection && set({ connection }));
}

async function hear(kind, data) {
  handlers[kind]?.(data);
  changed();
}

const handlers = {
  async state(data) {
    const isFirst = state.knobs === null;
    Object.assign(state, {
      settings: data.settings, channel: heard(data.channel), processes: data.processes, rounds: data.rounds,
      current: data.round && numbered(data.round),
    });
    if (isFirst) {
      try {
        state.knobs = await ask("GET", "v1/knobs");
        await applyAddress();
      } catch (error) {
        state.problem = error.message;
      }
      changed();
    }
    loadPresets();
  },
  settings(data) {
    state.settings = data.settings;
    remember();
  },
  channel(data) {
    state.channel = heard(data);
    remember();
    loadPresets();
  },
  process(data) {
    const at = state.processes.findIndex((each) => each.name === data.name);
    if (at >= 0) state.processes[at] = data;
    else state.processes.push(data);
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
    if (state.current?.number === data.round) state.current.views[data.camera] = { ...data.view, round: data.round };
  },
  vote(data) {
    if (state.current?.number !== data.round) return;
    state.current.vote = data.vote;
    state.current.missing = data.missing;
  },
  failed(data) {
    if (state.current?.number === data.round) state.current.failures[data.camera] = data.reason;
  },
  over(data) {
    if (state.current?.number === data.round) Object.assign(state.current, { is_over: true, identical: data.identical });
    const known = state.rounds.findIndex((each) => each.number === data.round);
    if (known >= 0) state.rounds[known] = data.summary;
    else state.rounds.push(data.summary);
    if (state.rounds.length > MOST_ROUNDS) state.rounds.shift();
    state.rounds = [...state.rounds];
  },
};

// When a scenario's position was heard of, from which on it goes by itself.
function heard(channel) {
  if (channel.scenario) channel.scenario.heard = performance.now();
  return channel;
}

// Every view says which round it is of.
function numbered(round) {
  for (const view of Object.values(round.views)) view.round = round.number;
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
  if (state.knobs) writeAddress(state);
}

async function applyAddress() {
  const wanted = knobsIn(state.knobs);
  if (Object.keys(wanted.settings).length) await turn(wanted.settings);
  if (wanted.impairments) await command("PUT", "v1/channel/impairments", wanted.impairments);
  remember();
}

async function command(method, path, body, type) {
  try {
    const answer = await ask(method, path, body, type);
    if (state.problem) set({ problem: "" });
    return answer;
  } catch (error) {
    set({ problem: error instanceof Refused ? error.message : "the studio does not answer" });
    return null;
  }
}

function turned() {
  state.turned = performance.now();
  state.opened = null;
}

export async function turn(changes) {
  turned();
  const settings = await command("PATCH", "v1/settings", changes);
  if (settings) set({ settings });
}

export async function turnChannel(changes) {
  turned();
  const patch = state.scope === "default" ? { default: changes } : { devices: { [state.scope]: changes } };
  const impairments = await command("PATCH", "v1/channel/impairments", patch);
  if (impairments) {
    state.channel = { ...state.channel, impairments };
    remember();
    changed();
  }
}

export async function showPicture(file, camera) {
  turned();
  await command("PUT", `v1/pictures${camera ? `?camera=${camera}` : ""}`, file, file.type);
}

export async function forgetPictures() {
  turned();
  await command("DELETE", "v1/pictures");
}

async function scenario(method, body, type) {
  const given = typeof body === "string" && type !== "text/csv" ? parsed(body) : body;
  if (given === null) return set({ problem: "the file holds no JSON" });
  return command(method, "v1/channel/scenario", given, type);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export const loadScenario = (body, type) => scenario("PUT", body, type);
export const changeScenario = (changes) => scenario("PATCH", changes);
export const removeScenario = () => scenario("DELETE");

export const step = () => command("POST", "v1/rounds");

export async function open(number) {
  if (number === state.current?.number) return set({ opened: null });
  const round = await command("GET", `v1/rounds/${number}`);
  if (round) set({ opened: numbered(round) });
}

export async function replay(number) {
  state.opened = null;
  await command("POST", `v1/rounds/${number}/replay`);
}
