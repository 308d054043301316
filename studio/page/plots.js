// Plots of the radio view: axes with units around a canvas, a reading below, and a place in it that keys move.

import { html, useState } from "./vendor/htm-preact.js";

// `x` and `y` name an axis: [its label, what stands at its beginning, what at its end]; the y axis begins at the bottom.
// The reading is told of where a key moved the place, and not when something else is `shown` in the plot.
export function Plot({ title, x, y, reading, shown, children, ...rest }) {
  const [keyed, setKeyed] = useState(null); // what was shown when a key was pressed here
  return html`<figure onKeyDown=${() => setKeyed(shown)} onfocusout=${() => setKeyed(null)} ...${{ class: "plot", ...rest }}>
    <figcaption><span>${title}</span></figcaption>
    <div class="axes">
      <div class="axis vertical"><span>${y[2]}</span><span>${y[0]}</span><span>${y[1]}</span></div>
      <div class="plane">${children}</div>
      <div class="axis"><span>${x[1]}</span><span>${x[0]}</span><span>${x[2]}</span></div>
    </div>
    <div class="reading" aria-live=${shown && keyed === shown ? "polite" : "off"}>${reading}</div>
  </figure>`;
}

// Of a canvas that is pointed at, or moved over by keys, in a grid of columns and rows: `go` is told the column and row.
export function pointing(columns, rows, place, go, leave) {
  const within = (value, most) => Math.min(most - 1, Math.max(0, value));
  const page = Math.ceil(columns / 16);
  const steps = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    PageUp: [-page, 0], PageDown: [page, 0], Home: [-columns, 0], End: [columns, 0],
  };
  return {
    tabIndex: 0,
    role: "application",
    onPointerMove: (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      const [across, down] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      go(within(Math.floor(across * columns), columns), within(Math.floor(down * rows), rows));
    },
    onKeyDown: (event) => {
      if (!(event.key in steps)) return;
      event.preventDefault();
      const [across, down] = steps[event.key];
      if (place) go(within(place[0] + across, columns), within(place[1] + down, rows));
      else go(0, 0);
    },
    onPointerLeave: leave,
    onBlur: leave,
  };
}
