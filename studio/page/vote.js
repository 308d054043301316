// Vote panel: who says what, who is missing, how it was decided, and why the server asked for more.

import { html } from "./vendor/htm-preact.js";
import { share } from "./numbers.js";
import { replay } from "./store.js";

export function Vote({ round, names, isNewest }) {
  return html`<section class="panel vote" data-testid="vote" data-round=${round?.vote ? round.number : null} aria-label="vote">
    <h2>Vote</h2>
    ${round ? html`<${Result} round=${round} />
      <table><thead><tr><th scope="col">camera</th><th scope="col">says</th><th scope="col">confidence</th></tr></thead>
        <tbody>${names.map((name) => html`<${View} key=${name} name=${name} view=${round.views[name] ?? (round.is_over ? null : round.stale?.views[name])} round=${round} />`)}</tbody>
      </table>
      <p class="quiet">round ${round.number}, seed ${round.settings.seed}, noise ${round.noise}
        ${round.of ? html`, plays round ${round.of} again` : null}
        ${round.identical === true ? html` <b data-testid="identical">every bit arrived as it did then</b>` : null}
        ${round.identical === false ? html` <b class="failure" data-testid="identical">other bits arrived than then</b>` : null}</p>
      <button type="button" data-testid="replay" onClick=${() => replay(round.number)}>Play round ${round.number} again</button>
      ${!isNewest && html`<p class="quiet">A past round is shown; a turned knob goes back to the newest.</p>`}`
      : html`<p class="quiet">no round yet</p>`}
  </section>`;
}

function Result({ round }) {
  const vote = round.vote ?? (round.is_over ? null : round.stale?.vote);
  if (!vote) {
    return html`<p class="result quiet" role="status">${round.is_over ? "no vote was taken" : "views are on their way"}</p>`;
  }
  const fused = vote.fused;
  return html`<p class="result ${round.vote ? "" : "quiet"}" role="status"><b>${vote.name}</b> <span>${vote.votes} of ${vote.views} views</span></p>
    <p class="quiet">Most views win; ties go to the higher summed confidence.</p>
    ${fused ? html`<p>all views together: <b>${fused.name}</b> ${share(fused.confidence)}
      ${fused.label !== vote.label ? html` <span class="failure">not the majority's</span>` : null}</p>` : null}`;
}

function View({ name, view, round }) {
  if (!view) {
    const why = round.failures[name] ?? (round.is_over ? "missing" : "…");
    return html`<tr><th scope="row">${name}</th><td colspan="2" class="quiet">${why}</td></tr>`;
  }
  const agrees = round.vote?.label === view.top1.label;
  const wish = view.layers.at(-1).wish;
  return html`<tr><th scope="row">${name}</th>
    <td>${round.vote ? html`<span aria-label=${agrees ? "agrees" : "differs"}>${agrees ? "✓" : "≠"}</span> ` : null}${view.top1.name}
      ${wish ? html`<div class="quiet">asked for a picture of ${wish.side} pixels, at most ${wish.most_bytes} bytes: its opinion was unsure,
        ${share(view.first_predictions[0].confidence)} for ${view.first_predictions[0].name}</div>` : null}
      ${view.opinion && view.layers.length === 1 ? html`<div class="quiet">an opinion was enough</div>` : null}</td>
    <td class="number">${share(view.top1.confidence)}</td></tr>`;
}
