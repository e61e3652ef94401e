/** Views of a failure: the problem with a retry, and a form for the API key. */

import { element, freshId } from "./elements.js";

/**
 * @param {import("./service.js").Problem} problem
 * @param {null|(() => void)} onRetry Tries once more.
 */
export function problemView(problem, onRetry) {
  const wait = problem.retryAfterSeconds;
  return element(
    "div",
    { class: "problem", role: "alert" },
    element("h3", {}, problem.title),
    element("p", {}, problem.detail),
    wait === null ? null : element("p", {}, `Try again in ${Math.ceil(wait)} s.`),
    problem.retryable && onRetry
      ? element("button", { type: "button", class: "button", onclick: onRetry }, "Try again")
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
  const words = refused ? problem.detail : "This service needs an API key.";
  const form = element(
    "form",
    { class: "key-form" },
    element("label", { for: id }, "API key"),
    element("div", { class: "field-row" }, input, element("button", { class: "button primary" }, "Use key")),
    element("p", { id: hint, class: "fine", role: refused ? "alert" : null }, `${words} The key is kept until this tab is closed.`),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onKey(input.value.trim());
  });
  return form;
}
