// Images: bitmaps by digest, fetched once, decoded off the page's own thread; those not used for longest are let go.

import { ask } from "./server.js";

const MOST_HELD = 96;
const held = new Map();

export function bitmap(digest) {
  let found = held.get(digest);
  held.delete(digest);
  if (!found) {
    found = ask("GET", `v1/images/${digest}.png`).then((blob) => createImageBitmap(blob));
    found.catch(() => held.delete(digest));
  }
  held.set(digest, found);
  if (held.size > MOST_HELD) {
    const [oldest, dropped] = held.entries().next().value;
    held.delete(oldest);
    dropped.then((image) => image.close(), () => {});
  }
  return found;
}
