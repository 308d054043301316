// Draft: what a control was moved to, shown in place of what holds until that is answered.

import { useRef, useState } from "./vendor/htm-preact.js";

// The draft, or null; move(value) shows it, null nothing; give(value) sends it as well.
export function useDraft(send) {
  const [draft, setDraft] = useState(null);
  const moves = useRef(0);
  const move = (value) => {
    moves.current += 1;
    setDraft(value);
  };
  const give = async (value) => {
    move(value);
    const number = moves.current;
    await send(value);
    // The answer is shown in the next frame.
    requestAnimationFrame(() => number === moves.current && setDraft(null));
  };
  return [draft, move, give];
}
