/** Says what went wrong and what can be done. */

import { element, freshId } from "./elements.js";

/**
 * @param {import("./service.js").Problem} problem
 * @param {null|(() => void)} onAgain Tries once more.
 */
export function problemView(problem, onAgain) {
  const wait = problem.retryAfterSeconds;
  return element(
    "div",
    { class: "problem", role: "alert" },
    element("h3", {}, problem.title),
    element("p", {}, problem.detail),
    wait === null ? null : element("p", {}, `It may go better in ${Math.ceil(wait)} s.`),
    problem.passing && onAgain
      ? element("button", { type: "button", class: "button", onclick: onAgain }, "Try again")
      : null,
    problem.requestId
      ? element("p", { class: "fine" }, `Status ${problem.status}, request `, element("code", {}, problem.requestId))
      : null,
  );
}

/**
 * Asks for an API key.
 *
 * @param {import("./service.js").Problem} problem Why it is needed.
 * @param {string|null} refused The key that was sent, if any.
 * @param {(key: string) => void} onKey
 */
export function keyForm(problem, refused, onKey) {
  const [id, hint] = [freshId("key"), freshId("hint")];
  const input = element("input", {
    type: "password",
    id,
    class: "field",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": hint,
    "aria-invalid": refused ? "true" : null,
  });
  const words = refused ? problem.detail : "This service answers callers with a key.";
  const form = element(
    "form",
    { class: "key-form" },
    element("label", { for: id }, "API key"),
    element("div", { class: "field-row" }, input, element("button", { class: "button primary" }, "Use it")),
    element("p", { id: hint, class: "fine", role: refused ? "alert" : null }, `${words} It is kept until this tab is closed.`),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onKey(input.value.trim());
  });
  return form;
}
