// Server: commands as fetch, events as a stream that is taken up again where it broke off; a key where one is wanted.

const KEY = "semlink-key";
const PAUSE_MS = 400;
const KEY_PAUSE_MS = 5000; // while a key is waited for: the studio may have been started anew, and take the one that it has
let keyIsThere = () => {};
const ANSWER_MS = 120_000; // as many rounds as may wait are over by then, unless every one of them fails
const SILENT_MS = 2500; // the studio says something every second

function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}`, ...more } : more;
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
  keyIsThere();
}

export class Refused extends Error {}

export async function ask(method, path, body, type = "application/json") {
  const isJson = type === "application/json";
  const answer = await fetch(path, {
    method,
    headers: headers(body === undefined ? {} : { "Content-Type": type }),
    body: body === undefined ? undefined : isJson ? JSON.stringify(body) : body,
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const said = await bodyOf(answer);
  if (!answer.ok) throw Object.assign(new Refused(whyOf(answer, said)), { status: answer.status });
  return said;
}

function bodyOf(answer) {
  const isDocument = (answer.headers.get("content-type") ?? "").includes("json");
  return answer.status === 204 ? null : isDocument ? answer.json() : answer.blob();
}

const whyOf = (answer, said) => said?.detail ?? `${answer.status} ${answer.statusText}`;

// Calls hear(kind, data) for every event, for ever; stands(...) tells of the connection: "open", "lost" and why, where that is
// said, "key" where one is wanted, "refused" where the key that was shown is not accepted.
export async function follow(hear, stands) {
  let last = "";
  for (;;) {
    const silence = silenceAfter(SILENT_MS);
    let why = "";
    try {
      const answer = await fetch("v1/events", {
        headers: headers(last ? { "Last-Event-ID": last } : {}), cache: "no-store", signal: silence.signal,
      });
      if (answer.status === 401) {
        stands(sessionStorage.getItem(KEY) ? "refused" : "key");
        await keyOr(KEY_PAUSE_MS);
        continue;
      }
      if (answer.ok) {
        stands("open");
        last = await read(answer.body.pipeThrough(new TextDecoderStream()).getReader(), hear, last, silence.broken);
      } else why = whyOf(answer, await bodyOf(answer));
    } catch {
      // The studio is away, or comes back: asked again below.
    } finally {
      silence.over();
    }
    stands("lost", why);
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
}

// A signal that aborts what waits for a studio that has said nothing for so long since it was last `broken`.
function silenceAfter(milliseconds) {
  const controller = new AbortController();
  let timer;
  const over = () => clearTimeout(timer);
  const broken = () => {
    over();
    timer = setTimeout(() => controller.abort(), milliseconds);
  };
  broken();
  return { signal: controller.signal, broken, over };
}

function keyOr(milliseconds) {
  return new Promise((done) => {
    keyIsThere = done;
    setTimeout(done, milliseconds);
  });
}

async function read(reader, hear, last, heard) {
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return last;
      heard();
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
