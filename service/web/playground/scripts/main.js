/** Assembles the page: one image, and one run for each task that was selected. */

import {
  imageNote, modelSection, offSection, requestSection, timeSection, weightsNote,
} from "./about_request.js";
import { ClassifyView } from "./classify_view.js";
import { curlCommand } from "./curl_command.js";
import { DetectView } from "./detect_view.js";
import { element } from "./elements.js";
import { takeImages } from "./image_intake.js";
import { ModelChooser } from "./model_chooser.js";
import { keyForm, problemView } from "./problem_view.js";
import { SegmentView } from "./segment_view.js";
import { imageRequest, Problem, Service } from "./service.js";
import { TaskTabs } from "./task_tabs.js";
import { Viewfinder } from "./viewfinder.js";
import { count, size } from "./words.js";

const UNAUTHORIZED = 401;
const NOT_FOUND = 404;
const UNAVAILABLE = 503;

class Playground {
  #service = new Service();
  #main = document.querySelector("main");
  #panel = document.querySelector("#panel");
  #refusal = document.querySelector("#refusal");
  #facts = document.querySelector("#facts");
  #cancel = document.querySelector("#cancel");
  #announcer = document.querySelector("#announcer");
  #viewfinder = new Viewfinder(document.querySelector("#viewfinder"), (words) => this.#say(words));
  #tabs = new TaskTabs(document.querySelector("#tabs"), this.#panel);
  #chooser = new ModelChooser(document.querySelector("#chooser"), () => this.#ask());
  #views = {
    classify: new ClassifyView(),
    segment: new SegmentView(this.#viewfinder),
    detect: new DetectView(this.#viewfinder),
  };
  /** Served models by task, one for each name and device. */
  #models = new Map();
  #task = null;
  #image = null;
  /** By task: {state: running, done, failed or cancelled, controller, request, outcome, problem}. */
  #runs = new Map();

  start() {
    takeImages(
      {
        input: document.querySelector("#file"),
        examples: document.querySelectorAll("[data-example]"),
        target: document.querySelector("#viewfinder"),
      },
      (image) => this.#take(image),
      (words) => this.#refuse(words),
    );
    this.#cancel.addEventListener("click", () => this.#cancelRun());
    this.#loadModels();
  }

  async #loadModels() {
    try {
      this.#models = new Map();
      for (const model of await this.#service.models()) {
        this.#models.set(model.task, [...(this.#models.get(model.task) ?? []), model]);
      }
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.#panel.replaceChildren(this.#problem(problem, () => this.#loadModels()));
      if (problem.status === UNAVAILABLE) {
        setTimeout(() => this.#loadModels(), 1000 * (problem.retryAfterSeconds ?? 1));
      }
      return;
    }
    const tasks = Object.keys(this.#views);
    const served = tasks.filter((task) => this.#models.has(task));
    this.#tabs.offer(tasks, served, (task) => this.#select(task));
    this.#select(served.includes(this.#task) ? this.#task : served[0]);
  }

  #select(task) {
    this.#task = task;
    this.#tabs.select(task);
    if (this.#models.has(task)) this.#chooser.offer(task, this.#models.get(task));
    if (this.#image && this.#models.has(task) && !this.#runs.has(task)) this.#run();
    else this.#show();
  }

  /** Ask another model of the task about the image. */
  #ask() {
    this.#runs.get(this.#task)?.controller.abort();
    this.#runs.delete(this.#task);
    this.#select(this.#task);
  }

  /** The chosen model of the task, once for each device that serves it. */
  get #chosen() {
    const models = this.#models.get(this.#task);
    const name = models && this.#chooser.chosen(this.#task, models);
    return models?.filter((model) => model.name === name);
  }

  async #take(image) {
    for (const { controller } of this.#runs.values()) controller.abort();
    this.#runs.clear();
    this.#image = image;
    this.#facts.textContent = `${image.name}, ${size(image.blob.size)}`;
    this.#refuse(image.left ? `One image at a time: ${count(image.left, "other file")} left out.` : null);
    this.#run();
    const shown = await this.#viewfinder.show(image);
    if (this.#image !== image) return;
    if (shown) this.#tellSize(shown);
    this.#show();
  }

  /** Tell what was not taken, beside the picture; null takes the words back. */
  #refuse(words) {
    this.#refusal.hidden = words === null;
    this.#refusal.textContent = words ?? "";
    if (words === null) return;
    this.#say(words);
    this.#refusal.scrollIntoView({ block: "nearest" });
  }

  /** Send the image to the service, for the selected task. */
  async #run() {
    const [task, image] = [this.#task, this.#image];
    if (!this.#models.has(task)) return;
    const view = this.#views[task];
    const [model] = this.#chosen;
    const named = model.default ? {} : { model: model.name };
    const request = imageRequest(task, { ...named, ...view.query(model) }, image);
    const run = { state: "running", controller: new AbortController(), request };
    this.#runs.set(task, run);
    this.#show();
    this.#say(`${view.doing} ${image.name}.`);
    try {
      run.outcome = await this.#service.infer(request, image.blob, run.controller.signal);
      run.state = "done";
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      run.problem = error;
      run.state = "failed";
    }
    if (this.#runs.get(task) !== run || this.#task !== task) return;
    if (run.state === "done") this.#say(view.summary(run.outcome.answer));
    this.#show();
  }

  /** Run again; a model that is not there any more has been replaced, so look which are. */
  #retry(run) {
    if (run.problem.status !== NOT_FOUND) return this.#run();
    this.#runs.delete(this.#task);
    return this.#loadModels();
  }

  #cancelRun() {
    const run = this.#runs.get(this.#task);
    run.controller.abort();
    run.state = "cancelled";
    this.#say("Cancelled.");
    this.#show();
    // The button that had the focus is gone.
    this.#panel.querySelector("button")?.focus();
  }

  /** Whether demo weights were given something else than the scenes that they were trained on. */
  get #untrusted() {
    return this.#chosen?.[0].weights === "demo" && this.#image?.address === null;
  }

  /** Show the state of the task's run. */
  #show() {
    const run = this.#runs.get(this.#task);
    const models = this.#chosen;
    const state = run?.state ?? (this.#image ? "ready" : "empty");
    this.#viewfinder.clear();
    this.#viewfinder.state = state;
    this.#main.dataset.state = state;
    this.#cancel.hidden = state !== "running";
    if (!models) {
      if (this.#task) this.#panel.replaceChildren(offSection(this.#task, (words) => this.#say(words)));
      return;
    }
    const parts = {
      empty: () => [element("p", { class: "lead" }, "Choose an image, and the answer appears here.")],
      ready: () => [],
      running: () => [element("p", { class: "lead working" }, `${this.#views[this.#task].doing}…`)],
      cancelled: () => [
        element("p", { class: "lead" }, "Cancelled."),
        element("button", { type: "button", class: "button", onclick: () => this.#run() }, "Run again"),
      ],
      failed: () => [this.#problem(run.problem, () => this.#retry(run)), this.#requestSection(run)],
      done: () => this.#answer(run),
    }[state]();
    this.#panel.replaceChildren(
      ...[...this.#noted(models[0], parts), modelSection(models)].filter((part) => part !== null),
    );
  }

  /** Put the note on the weights before an answer, or right after one that is muted. */
  #noted(model, [first, ...rest]) {
    const muted = this.#untrusted && first?.matches(".result");
    const note = weightsNote(model, muted, (words) => this.#say(words));
    return muted ? [first, note, ...rest] : [note, first ?? null, ...rest];
  }

  #answer(run) {
    const { answer } = run.outcome;
    this.#viewfinder.shape(answer.image.width, answer.image.height);
    this.#tellSize(answer.image);
    return [
      element("div", { class: "result", "data-muted": this.#untrusted }, this.#views[this.#task].show(answer)),
      imageNote(answer.image),
      timeSection(run.outcome),
      this.#requestSection(run),
    ];
  }

  #requestSection(run) {
    const command = curlCommand(run.request, this.#image, this.#service.key !== null);
    return requestSection(command, (words) => this.#say(words));
  }

  /** The problem, or a form for the API key if that is missing. */
  #problem(problem, onRetry) {
    if (problem.status !== UNAUTHORIZED) return problemView(problem, onRetry);
    return keyForm(problem, this.#service.key, (key) => {
      this.#service.key = key;
      onRetry();
    });
  }

  #tellSize({ width, height }) {
    const { name, blob } = this.#image;
    this.#facts.textContent = `${name}, ${width} × ${height}, ${size(blob.size)}`;
  }

  #say(words) {
    this.#announcer.textContent = words;
  }
}

new Playground().start();
