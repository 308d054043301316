// Images: bitmaps by digest, fetched once, decoded off the page's own thread; those not used for longest are let go.

import { ask } from "./server.js";

const MOST_HELD = 96;
const held = new Map();

export const bitmap = (digest) => once(digest, () => ask("GET", `v1/images/${digest}.png`).then((blob) => createImageBitmap(blob)));

// Without colour, as maps are shown over it.
export const greyBitmap = (digest) => once(`${digest} grey`, () => bitmap(digest).then(grey));

export const whyNot = (error) => (error.status === 404 ? "no longer held: play the round again" : "could not be fetched");

function grey(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  const pen = canvas.getContext("2d");
  pen.filter = "grayscale(1)";
  pen.drawImage(image, 0, 0);
  return canvas.transferToImageBitmap();
}

function once(key, make) {
  let found = held.get(key);
  held.delete(key);
  if (!found) {
    found = make();
    found.catch(() => held.delete(key));
  }
  held.set(key, found);
  if (held.size > MOST_HELD) {
    const [oldest, dropped] = held.entries().next().value;
    held.delete(oldest);
    dropped.then((image) => image.close(), () => {});
  }
  return found;
}
