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

/** The request as a shell command. */
export function requestSection(command, announce) {
  const [copy, shown] = commandWithCopy(command, "Command", announce);
  shown.classList.add("command");
  return section("The same from a shell", copy, shown);
}

/** @returns {HTMLElement[]} A button that copies a shell command, and the command. */
export function commandWithCopy(command, name, announce) {
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
  const shown = element("pre", { class: "shell", tabindex: "0", "aria-label": name }, code);
  return [copy, shown];
}

/** @param {Object[]} models One for each device; they differ in nothing else. */
export function modelSection(models) {
  const [model] = models;
  const { width, height, short_side: short, long_side: long } = model.input;
  const digest = model.weights_sha256?.slice(0, 12);
  const facts = {
    Model: model.name === model.architecture ? model.name : `${model.name} (${model.architecture})`,
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

/**
 * A warning about the model's weights; null if there is none.
 *
 * @param {Object} model
 * @param {boolean} untrusted Whether the answer is about an image that the model knows nothing of.
 */
export function weightsNote(model, untrusted, announce) {
  if (!model.note) return null;
  const note = element("div", { class: "note", "data-weights": model.weights }, element("p", {}, model.note));
  if (untrusted) {
    const command = commandWithCopy(servingCommand(model.task), "Command that serves a real network", announce);
    note.append(element("div", { class: "advice" }, element("p", {}, "To serve a real network:"), ...command));
  }
  return note;
}

/** What a task that is turned off needs. */
export function offSection(task, announce) {
  const lead = element("p", { class: "lead" }, `This service does not ${task}.`);
  const command = commandWithCopy(servingCommand(task), "Command that turns it on", announce);
  return element("div", { class: "stack" }, lead, element(
    "div", { class: "advice" }, element("p", {}, "To turn it on, start it with:"), ...command,
    element("p", {}, "A service with a models file needs such a model there instead."),
  ));
}

const NETWORKS = { classify: "overlock_t", segment: "upernet_overlock_t", detect: "mask_rcnn_overlock_t" };

function servingCommand(task) {
  const options = [`--${task}-model ${NETWORKS[task]}`, `--${task}-weights pretrained`];
  return ["overlock serve", ...options].join(" \\\n  ");
}

/** A note that only the first of several frames was used; null for a single frame. */
export function imageNote({ frames }) {
  if (frames < 2) return null;
  return element("p", { class: "fine" }, `The first of ${count(frames, "frame")} was used.`);
}

function section(heading, ...children) {
  return element("section", { class: "about" }, element("h3", {}, heading), ...children);
}
