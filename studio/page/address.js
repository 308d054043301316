// Address: what was set, behind the # of the page's address, so that a link shows the same again.
//
// NAME=VALUE for knobs of the link (the noise of a running link is left out: every round has another), channel=TYPE and
// channel.NAME=VALUE for the channel of all cameras, and camera-2=TYPE and camera-2.NAME=VALUE for a camera that meets
// another one. What has its default is left out, and so is the channel while a scenario plays.
// compare=LEFT,RIGHT,CAMERA for two links that are compared; with ,free behind it their bits need not be equal.

const CAMERA = /^camera-[1-8]$/;

const every = (knobs) => knobs.groups.flatMap((group) => group.knobs);
const ofChannel = (knobs, type) => knobs.channels.find((each) => each.type === type)?.knobs ?? [];

export function writeAddress({ knobs, settings, channel, compare }) {
  const parts = new URLSearchParams();
  for (const knob of every(knobs)) {
    const value = settings[knob.name];
    const passes = knob.name === "running" || (knob.name === "noise" && settings.running);
    if (value !== knob.default && value !== null && !passes) parts.set(knob.name, value);
  }
  if (channel.impairments && !channel.scenario?.playing) writeChannel(parts, knobs, channel.impairments);
  if (compare) parts.set("compare", [compare.left, compare.right, compare.camera, ...(compare.equal_bits ? [] : ["free"])].join(","));
  const address = parts.toString();
  if (address !== location.hash.slice(1)) history.replaceState(null, "", address ? `#${address}` : location.pathname);
}

function writeChannel(parts, knobs, impairments) {
  write(parts, knobs, "channel", impairments.default);
  for (const [name, own] of Object.entries(impairments.devices)) if (CAMERA.test(name)) write(parts, knobs, name, own);
}

// Whether two channels are the same to an address.
export function isSameChannel(knobs, ...channels) {
  const [one, other] = channels.map((impairments) => {
    const parts = new URLSearchParams();
    writeChannel(parts, knobs, impairments);
    parts.sort();
    return parts.toString();
  });
  return one === other;
}

// Devices that are no cameras of the studio, of which an address says nothing.
export function others(devices) {
  return Object.fromEntries(Object.entries(devices).filter(([name]) => !CAMERA.test(name)));
}

function write(parts, knobs, name, impairment) {
  parts.set(name, impairment.type);
  for (const knob of ofChannel(knobs, impairment.type)) {
    const value = impairment[knob.name];
    if (value !== knob.default && value !== null && value !== undefined) parts.set(`${name}.${knob.name}`, value);
  }
}

// What an address says; settings: null where it says nothing.
export function knobsIn(knobs, address) {
  const parts = new URLSearchParams(new URL(address).hash.slice(1));
  if (!parts.toString()) return { settings: null, impairments: null, compare: null };
  const settings = {};
  for (const knob of every(knobs)) if (parts.has(knob.name)) settings[knob.name] = read(knob, parts.get(knob.name));
  const compare = parts.has("compare") ? compared(parts.get("compare")) : null;
  if (!parts.has("channel")) return { settings, impairments: null, compare };
  const devices = {};
  for (const name of parts.keys()) if (CAMERA.test(name)) devices[name] = impairment(parts, knobs, name);
  return { settings, impairments: { default: impairment(parts, knobs, "channel"), devices }, compare };
}

function compared(text) {
  const [left = "as set", right = "fixed", camera, bits] = text.split(",");
  return { left, right, camera: Number(camera) || 1, equal_bits: bits !== "free" };
}

function impairment(parts, knobs, name) {
  const type = parts.get(name);
  const found = { type };
  for (const knob of ofChannel(knobs, type)) {
    const given = parts.get(`${name}.${knob.name}`);
    if (given !== null) found[knob.name] = read(knob, given);
    else if (knob.default !== null) found[knob.name] = knob.default;
  }
  return found;
}

function read(knob, text) {
  if (knob.kind === "flag") return text === "true";
  if (knob.kind === "choice") return knob.choices.find((choice) => String(choice) === text) ?? text;
  return Number(text);
}
