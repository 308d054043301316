// Equations: elements of MathML, made of lists [tag, children or text] node by node; nothing is read as markup.

import { html, useEffect, useRef } from "./vendor/htm-preact.js";

const NAMESPACE = "http://www.w3.org/1998/Math/MathML";
const TAGS = new Set(["mrow", "mi", "mn", "mo", "mtext", "mfrac", "msub", "msup", "msubsup", "munder", "msqrt"]);

export function Equation({ elements, display = "block" }) {
  const place = useRef();
  useEffect(() => {
    place.current.replaceChildren(...elements.map((element) => {
      const math = document.createElementNS(NAMESPACE, "math");
      math.setAttribute("display", display);
      math.append(node(element));
      return math;
    }));
  }, [elements]);
  return html`<span class="equation" ref=${place} tabindex=${display === "block" ? 0 : undefined}></span>`; // it may have to be scrolled
}

function node([tag, ...content]) {
  const made = document.createElementNS(NAMESPACE, TAGS.has(tag) ? tag : "mtext");
  made.append(...content.map((each) => (Array.isArray(each) ? node(each) : String(each))));
  return made;
}
