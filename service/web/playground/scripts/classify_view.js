/** Shows the most likely classes as bars. */

import { element, withVariable } from "./elements.js";
import { percent } from "./words.js";

const SHOWN = 5;

export class ClassifyView {
  doing = "Classifying";

  query(model) {
    return { top_k: Math.min(SHOWN, model.classes.length) };
  }

  /** The answer in one sentence. */
  summary({ predictions: [best] }) {
    return `${best.label}, ${percent(best.score)}.`;
  }

  show({ predictions }) {
    const rows = predictions.map(({ label, score }) =>
      element(
        "li",
        { class: "bar" },
        element("span", { class: "bar-label" }, label),
        element("span", { class: "number" }, percent(score)),
        withVariable(element("span", { class: "bar-track" }), "--share", score),
      ),
    );
    return element("ol", { class: "bars" }, ...rows);
  }
}
