// Address: what was set, behind the # of the page's address, so that a link shows the same again.
//
// NAME=VALUE for knobs of the link, channel=TYPE and channel.NAME=VALUE for the channel of all cameras, and
// camera-2=TYPE and camera-2.NAME=VALUE for a camera that meets another one. What has its default is left out.

const every = (knobs) => knobs.groups.flatMap((group) => group.knobs);
const ofChannel = (knobs, type) => knobs.channels.find((each) => each.type === type)?.knobs ?? [];

export function writeAddress({ knobs, settings, channel }) {
  const parts = new URLSearchParams();
  for (const knob of every(knobs)) {
    const value = settings[knob.name];
    if (value !== knob.default && value !== null && knob.name !== "running") parts.set(knob.name, value);
  }
  const met = channel.impairments;
  if (met) {
    write(parts, knobs, "channel", met.default);
    for (const [name, own] of Object.entries(met.devices)) if (/^camera-[1-8]$/.test(name)) write(parts, knobs, name, own);
  }
  const address = parts.toString();
  if (address !== location.hash.slice(1)) history.replaceState(null, "", address ? `#${address}` : location.pathname);
}

function write(parts, knobs, name, impairment) {
  parts.set(name, impairment.type);
  for (const knob of ofChannel(knobs, impairment.type)) {
    const value = impairment[knob.name];
    if (value !== knob.default && value !== null && value !== undefined) parts.set(`${name}.${knob.name}`, value);
  }
}

export function knobsIn(knobs) {
  const parts = new URLSearchParams(location.hash.slice(1));
  const settings = {};
  for (const knob of every(knobs)) if (parts.has(knob.name)) settings[knob.name] = read(knob, parts.get(knob.name));
  if (!parts.has("channel")) return { settings, impairments: null };
  const devices = {};
  for (const name of parts.keys()) if (/^camera-[1-8]$/.test(name)) devices[name] = impairment(parts, knobs, name);
  return { settings, impairments: { default: impairment(parts, knobs, "channel"), devices } };
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
