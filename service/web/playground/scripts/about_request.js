/** Sections below an answer: the request's time, its shell command, and the model. */

import { element, withVariable } from "./elements.js";
import { count, duration } from "./words.js";

const STAGES = ["read", "decode", "queue", "inference", "render"];

/** The stages' times as a bar and as a list. */
export function timeSection({ stages, seconds, answer }) {
  const total = stages.get("total") ?? seconds;
  const known = STAGES.filter((stage) => stages.has(stage)).map((stage) => [stage, stages.get(stage)]);
  const rest = total - known.reduce((sum, [, took]) => sum + took, 0);
  const parts = [...known, ["other", Math.max(rest, 0)], ["connection", Math.max(seconds - total, 0)]];
  const bar = parts.map(([name, took]) =>
    withVariable(element("span", { "data-stage": name }), "flex-grow", took / seconds),
  );
  const rows = parts.flatMap(([name, took]) => [
    element("dt", {}, element("span", { class: "stage-mark", "data-stage": name }), name),
    element("dd", { class: "number" }, duration(took)),
  ]);
  const size = answer.timing.batch_size;
  const shared = size > 1 ? `, in a batch of ${size}` : "";
  return section(
    "Time",
    element("p", { class: "headline" }, duration(seconds), element("span", {}, shared)),
    element("div", { class: "time-bar", "aria-hidden": "true" }, ...bar),
    element("dl", { class: "time-list" }, ...rows),
  );
}

/** A shell command with a button that copies it. */
export function requestSection(command, announce) {
  const code = element("code", {}, command);
  const copy = element("button", { type: "button", class: "button small" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      announce("Copied.");
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 2000);
    } catch {
      // Browsers give pages without HTTPS no clipboard.
      getSelection().selectAllChildren(code);
      announce("Selected; press Ctrl+C to copy.");
      copy.textContent = "Selected: press Ctrl+C";
    }
  });
  const shown = element("pre", { class: "command", tabindex: "0", "aria-label": "Command" }, code);
  return section("The same from a shell", copy, shown);
}

/** @param {Object[]} models One for each device; they differ in nothing else. */
export function modelSection(models) {
  const [model] = models;
  const { width, height, short_side: short, long_side: long } = model.input;
  const digest = model.weights_sha256?.slice(0, 12);
  const facts = {
    Model: model.name,
    Weights: digest ? `${model.weights} (sha256 ${digest}…)` : model.weights,
    Classes: model.classes.length.toLocaleString("en"),
    Input: width ? `${width} × ${height} pixels` : `sides of at most ${short} and ${long} pixels`,
    Device: models.map((each) => `${each.device} (${each.device_name})`).join(", "),
    Type: model.compiled ? `${model.dtype}, compiled` : model.dtype,
  };
  const rows = Object.entries(facts).flatMap(([name, value]) => [
    element("dt", {}, name),
    element("dd", {}, value),
  ]);
  return section("Model", element("dl", { class: "facts-list" }, ...rows));
}

/** A warning about the model's weights; null if there is none. */
export function weightsNote(model) {
  if (!model.note) return null;
  return element("p", { class: "note", "data-weights": model.weights }, model.note);
}

/** A note that only the first of several frames was used; null for a single frame. */
export function imageNote({ frames }) {
  if (frames < 2) return null;
  return element("p", { class: "fine" }, `The first of ${count(frames, "frame")} was used.`);
}

function section(heading, ...children) {
  return element("section", { class: "about" }, element("h3", {}, heading), ...children);
}
