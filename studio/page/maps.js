// Maps: a picture, and over it numbers of its 14 × 14 patches as colours, on a canvas.

import { cividis, viridis } from "./colormaps.js";

export const SIDE = 224;
export const GRID = 14;

export const placeOf = (patch) => `patch ${patch} (row ${Math.floor(patch / GRID)}, column ${patch % GRID})`;

// What each panel shows: its image, and over it its numbers, as shares of their largest under `scale`.
export const PANELS = {
  picture: { name: "picture", image: "picture" },
  attention: { name: "attention", symbol: "a", image: "picture", map: "attention", colours: viridis, scale: Math.sqrt, unit: "" },
  bits: { name: "bits", symbol: "M", image: "picture", map: "bits", colours: cividis, scale: (share) => share, unit: "bit" },
  sent: { name: "sent", image: "sent" },
  flips: { name: "flips", image: "arrived", map: "flips", colours: viridis, scale: Math.sqrt, unit: "bit" },
  arrived: { name: "arrived", image: "arrived" },
};

for (const panel of Object.values(PANELS)) if (panel.colours) panel.gradient = { backgroundImage: gradient(panel.colours) };

const small = new OffscreenCanvas(GRID, GRID);
const pen = small.getContext("2d", { willReadFrequently: true });

export function draw(canvas, image, panel, values, opacity) {
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  if (image) context.drawImage(image, 0, 0, SIDE, SIDE);
  else context.clearRect(0, 0, SIDE, SIDE);
  if (!image || !values) return;
  paint(values, panel);
  context.imageSmoothingEnabled = false;
  context.globalAlpha = opacity;
  context.drawImage(small, 0, 0, SIDE, SIDE);
  context.globalAlpha = 1;
}

function paint(values, { colours, scale }) {
  const pixels = pen.createImageData(GRID, GRID);
  const most = largest(values);
  for (let at = 0; at < values.length; at++) {
    const colour = 3 * Math.round(255 * scale(most ? values[at] / most : 0));
    pixels.data.set([colours[colour], colours[colour + 1], colours[colour + 2], 255], 4 * at);
  }
  pen.putImageData(pixels, 0, 0);
}

// Of all subchannels that carry patches.
export function meanPower({ power, subchannels }) {
  const sum = (values) => values.reduce((before, value) => before + value, 0);
  return sum(power.map((each, patch) => each * subchannels[patch])) / sum(subchannels);
}

export const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);

export function gradient(colours) {
  const stops = [0, 64, 128, 192, 255].map((at) => `rgb(${colours.slice(3 * at, 3 * at + 3).join(" ")})`);
  return `linear-gradient(90deg, ${stops.join(", ")})`;
}
