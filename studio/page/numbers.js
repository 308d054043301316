// Numbers with their units, short enough to compare at a glance.

export const whole = (value) => Math.round(value).toLocaleString("en");
export const bits = (value) => `${whole(value)} bit`;
export const ms = (value) => `${value >= 100 ? whole(value) : value.toFixed(1)} ms`;
export const share = (value) => value.toFixed(3);
export const percent = (value) => `${(100 * value).toPrecision(3)} %`;

// Of axes: 300K.
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const compact = (value) => COMPACT.format(value);

export function short(value) {
  if (value === 0 || Number.isInteger(value)) return whole(value);
  const size = Math.abs(value);
  return size >= 0.001 && size < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}
