// Server: commands as fetch, events as a stream that is taken up again where it broke off; a key where one is wanted.

const KEY = "semlink-key";
const PAUSE_MS = 400;

function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}`, ...more } : more;
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

export class Refused extends Error {}

export async function ask(method, path, body, type = "application/json") {
  const isJson = type === "application/json";
  const answer = await fetch(path, {
    method,
    headers: headers(body === undefined ? {} : { "Content-Type": type }),
    body: body === undefined ? undefined : isJson ? JSON.stringify(body) : body,
  });
  const isDocument = (answer.headers.get("content-type") ?? "").includes("json");
  const said = answer.status === 204 ? null : isDocument ? await answer.json() : await answer.blob();
  if (!answer.ok) throw new Refused(said.detail ?? answer.statusText);
  return said;
}

// Calls hear(kind, data) for every event, for ever; stands("open" | "lost" | "key") tells of the connection.
export async function follow(hear, stands) {
  let last = "";
  for (;;) {
    try {
      const answer = await fetch("v1/events", { headers: headers(last ? { "Last-Event-ID": last } : {}), cache: "no-store" });
      if (answer.status === 401) stands("key");
      else if (answer.ok) {
        stands("open");
        last = await read(answer.body.pipeThrough(new TextDecoderStream()).getReader(), hear, last);
      }
    } catch {
      // The studio is away, or comes back: asked again below.
    }
    stands("lost");
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
}

async function read(reader, hear, last) {
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return last;
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const fields = Object.fromEntries(event.split("\n").map((line) => split(line)));
        if (fields.id) last = fields.id;
        if (fields.event) hear(fields.event, JSON.parse(fields.data));
      }
    }
  } catch {
    return last;
  }
}

function split(line) {
  const colon = line.indexOf(":");
  return [line.slice(0, colon), line.slice(colon + 1).trimStart()];
}
