// Turns: work that may wait takes turns, a piece in a frame, so that no frame has to do all of it.

const waiting = new Map();

// What the same owner wanted before, and has not been done, is no longer wanted.
export function inTurn(owner, work) {
  if (!waiting.size) requestAnimationFrame(next);
  waiting.set(owner, work);
}

export const notAnyMore = (owner) => waiting.delete(owner);

function next() {
  const [first] = waiting;
  if (!first) return;
  const [owner, work] = first;
  waiting.delete(owner);
  if (waiting.size) requestAnimationFrame(next);
  work();
}
