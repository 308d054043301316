// Again: what is asked for until it is there, or it is said that there is no such thing.

const PAUSE_MS = 2000;

// Tells `answered` what `request` gives, and `failed` of every failure; gives what ends it.
export function again(request, answered, failed = () => {}) {
  let timer = null;
  let isOver = false;
  const attempt = () => request().then(
    (answer) => isOver || answered(answer),
    (error) => {
      if (isOver) return;
      failed(error);
      if (error.status !== 404) timer = setTimeout(attempt, PAUSE_MS);
    },
  );
  attempt();
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}
