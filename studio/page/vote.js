// Vote panel: who says what, who is missing, how it was decided, and why the server asked for more.

import { html } from "./vendor/htm-preact.js";
import { namesOf } from "./camera.js";
import { differences } from "./then.js";
import { share } from "./numbers.js";
import { replay } from "./store.js";

export function Vote({ round, isNewest, knobs, settings, impairments }) {
  const names = namesOf(round?.settings.cameras);
  return html`<section class="panel vote" data-testid="vote" data-round=${round?.vote ? round.number : null} aria-label="vote">
    <h2>Vote</h2>
    ${round ? html`<${Result} round=${round} names=${names} />
      <table><thead><tr><th scope="col">camera</th><th scope="col">says</th><th scope="col">confidence</th></tr></thead>
        <tbody>${names.map((name) => html`<${View} key=${name} name=${name} view=${round.views[name] ?? (round.is_over ? null : round.stale?.views[name])} round=${round} />`)}</tbody>
      </table>
      <p class="quiet">round ${round.number}, seed ${round.settings.seed}, noise ${round.settings.noise}
        ${round.of ? html`, plays round ${round.of} again` : null}
        ${round.identical === true ? html` <b data-testid="identical">every bit arrived as it did then</b>` : null}
        ${round.identical === false ? html` <b class="failure" data-testid="identical">other bits arrived than then</b>` : null}
        ${round.changed ? html` <span data-testid="changed">the channel was changed while it was sent: played again, other bits may arrive</span>` : null}
        ${round.why ? html` <b data-testid="identical">not compared bit by bit: ${round.why}</b>` : null}</p>
      <button type="button" data-testid="replay" onClick=${() => replay(round.number)}>Play round ${round.number} again</button>
      ${!isNewest && html`<p class="quiet">A past round is shown; a turned knob goes back to the newest.
        <span data-testid="sent-with">${differences(round, { knobs, settings, impairments })}</span></p>`}`
      : html`<p class="quiet">no round yet</p>`}
  </section>`;
}

function Result({ round, names }) {
  const vote = round.vote ?? (round.is_over ? null : round.stale?.vote);
  const views = round.vote ? round.views : round.stale?.views ?? {};
  const missing = round.is_over ? names.filter((name) => !round.views[name]) : [];
  if (!vote) {
    return html`<p class="result quiet" role="status">${round.is_over ? "no vote was taken" : "views are on their way"}</p>`;
  }
  const fused = vote.fused;
  return html`<p class="result ${round.vote ? "" : "quiet"}" role="status"><b>${vote.name}</b> <span>${vote.votes} of ${vote.views} views</span></p>
    <p class="quiet" data-testid="decided">${decided(vote, Object.values(views))}</p>
    ${missing.length > 0 && html`<p class="quiet" data-testid="missing">missing: ${missing.join(", ")}</p>`}
    ${fused ? html`<p>all views together: <b>${fused.name}</b> ${share(fused.confidence)}
      ${fused.label !== vote.label ? html` <span class="failure">not the majority's</span>` : null}</p>` : null}`;
}

// As semlink.decision.voting has it: most views, then the highest summed confidence, then the lowest label.
function decided(vote, views) {
  const sums = new Map();
  for (const { top1 } of views) {
    const known = sums.get(top1.label) ?? { name: top1.name, label: top1.label, votes: 0, confidence: 0 };
    sums.set(top1.label, { ...known, votes: known.votes + 1, confidence: known.confidence + top1.confidence });
  }
  const winner = sums.get(vote.label);
  if (views.length !== vote.views || winner?.votes !== vote.votes) {
    return `taken of ${vote.views} views: most win, ties go to the higher summed confidence`;
  }
  if (vote.votes === vote.views) return "all views agree";
  if (2 * vote.votes > vote.views) return `a majority of ${vote.votes} of ${vote.views}`;
  const tied = [...sums.values()].filter((each) => each.votes === vote.votes).sort((one, other) => other.confidence - one.confidence);
  if (tied.length === 1) return `the most views, ${vote.votes} of ${vote.views}: no other class has as many`;
  const told = tied.map((each) => `${each.name} ${share(each.confidence)}`).join(", ");
  const isEven = tied[0].confidence === tied[1].confidence;
  return `a tie of ${tied.map((each) => each.votes).join(" and ")}, decided by ${isEven ? "the lower label at equal" : "the higher"} summed confidence: ${told}`;
}

function View({ name, view, round }) {
  if (!view) {
    const why = round.failures[name] ?? (round.is_over ? "missing" : "…");
    return html`<tr><th scope="row">${name}</th><td colspan="2" class="quiet">${why}</td></tr>`;
  }
  const agrees = round.vote?.label === view.top1.label;
  const wish = view.layers.at(-1).wish;
  return html`<tr><th scope="row">${name}</th>
    <td>${round.vote ? html`<span role="img" aria-label=${agrees ? "agrees" : "differs"}>${agrees ? "✓" : "≠"}</span> ` : null}${view.top1.name}
      ${wish ? html`<div class="quiet">asked for a picture of ${wish.side} pixels, at most ${wish.most_bytes} bytes: its opinion was unsure,
        ${share(view.first_predictions[0].confidence)} for ${view.first_predictions[0].name}</div>` : null}
      ${view.opinion && view.layers.length === 1 ? html`<div class="quiet">an opinion was enough</div>` : null}</td>
    <td class="number">${share(view.top1.confidence)}</td></tr>`;
}
