// Memo: a component that is made anew only when what it is given has changed.

import { Component, h } from "./vendor/htm-preact.js";

export function memo(component) {
  return class extends Component {
    shouldComponentUpdate(next) {
      return !sameEntries(next, this.props);
    }
    render(props) {
      return h(component, props);
    }
  };
}

function sameEntries(one, other) {
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => one[key] === other[key]);
}
