// Numbers with their units, short enough to compare at a glance.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const whole = (value) => WHOLE.format(Math.round(value));
export const bits = (value) => `${whole(value)} bit`;
export const ms = (value) => `${value >= 100 ? whole(value) : value.toFixed(1)} ms`;
export const share = (value) => value.toFixed(3);
export const percent = (value) => `${(100 * value).toPrecision(3)} %`;

export const sumOf = (numbers) => Object.values(numbers).reduce((sum, each) => sum + each, 0);

// Of axes: 300K.
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const compact = (value) => COMPACT.format(value);

export function short(value) {
  if (Number.isInteger(value)) return whole(value);
  const size = Math.abs(value);
  return size >= 1e-4 && size < 1e6 ? value.toLocaleString("en", { maximumSignificantDigits: 3 }) : value.toExponential(1);
}
