// Theme: the style sheet's colours as what is drawn on canvas needs them, and whether they are the dark ones.

import { useEffect, useState } from "./vendor/htm-preact.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

// What was drawn is drawn anew with every change of it.
export function useTheme() {
  const [isDark, setDark] = useState(dark.matches);
  useEffect(() => {
    const heard = () => setDark(dark.matches);
    dark.addEventListener("change", heard);
    return () => dark.removeEventListener("change", heard);
  }, []);
  return isDark;
}
