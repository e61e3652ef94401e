/** A labelled slider that shows its value. */

import { element, freshId } from "./elements.js";

/**
 * @param {{label: string, min: number, max: number, step: number, value: number}} options
 * @param {(value: number) => string} words Formats a value, to be shown and read out.
 * @param {(value: number) => void} onInput
 */
export function slider({ label, ...range }, words, onInput) {
  const id = freshId("slider");
  const input = element("input", { type: "range", id, ...range });
  // Screen readers get it from the slider itself.
  const shown = element("span", { class: "number", "aria-hidden": "true" });
  const tell = () => {
    shown.textContent = words(input.valueAsNumber);
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  tell();
  input.addEventListener("input", () => {
    tell();
    onInput(input.valueAsNumber);
  });
  return element("div", { class: "slider" }, element("label", { for: id }, label), input, shown);
}
