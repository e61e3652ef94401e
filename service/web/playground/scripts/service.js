/** Client of the service. Addresses are relative to the page, so that a proxy may add a prefix. */

import { readServerTiming } from "./server_timing.js";

const KEY_ITEM = "overlock-api-key";

/** A failure, with the service's own words if it answered. */
export class Problem extends Error {
  constructor({ status = 0, title, detail, requestId = null, retryAfterSeconds = null }) {
    super(title);
    Object.assign(this, { status, title, detail, requestId, retryAfterSeconds });
  }

  /** Whether the same request may succeed later. */
  get retryable() {
    return [0, 404, 408, 429].includes(this.status) || this.status >= 500;
  }
}

export class Service {
  /** The API key; kept until the tab is closed. */
  get key() {
    return sessionStorage.getItem(KEY_ITEM);
  }

  set key(key) {
    sessionStorage.setItem(KEY_ITEM, key);
  }

  async models() {
    const response = await this.#send(address("v1/models"), {});
    return (await response.json()).models;
  }

  /**
   * @param {{url: string, contentType: string}} request As `imageRequest` makes it.
   * @param {Blob} body The encoded image.
   * @param {AbortSignal} signal
   * @throws {Problem} If the service refuses or fails, or cannot be reached.
   */
  async infer(request, body, signal) {
    const started = performance.now();
    const response = await this.#send(request.url, {
      method: "POST",
      headers: { "Content-Type": request.contentType, Accept: "application/json" },
      body,
      signal,
    });
    const answer = await response.json();
    const seconds = (performance.now() - started) / 1000;
    return { answer, seconds, stages: readServerTiming(response.headers.get("Server-Timing")) };
  }

  async #send(url, options) {
    const headers = { ...options.headers };
    if (this.key) headers.Authorization = `Bearer ${this.key}`;
    let response;
    try {
      response = await fetch(url, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem({
        title: "No answer",
        detail:
          "The connection failed or was closed, or the file could not be read. " +
          "Is the service running, and is the file within its limit?",
      });
    }
    if (!response.ok) throw await readProblem(response);
    return response;
  }
}

/** The request of a task; the query's values are numbers or words. */
export function imageRequest(task, query, image) {
  const url = address(`v1/${task}`);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return { url: url.href, contentType: image.blob.type || "application/octet-stream" };
}

function address(path) {
  return new URL(path, document.baseURI);
}

/** Read RFC 9457 problem+json; a proxy in between may have answered something else. */
async function readProblem(response) {
  const retryAfter = Number.parseFloat(response.headers.get("Retry-After"));
  const facts = {
    status: response.status,
    requestId: response.headers.get("X-Request-ID"),
    retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : null,
  };
  if (response.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    const { title, detail } = await response.json();
    return new Problem({ ...facts, title, detail });
  }
  return new Problem({
    ...facts,
    title: `The answer was ${response.status} ${response.statusText}`.trim(),
    detail: "It did not come from the service; a proxy in between may have refused the request.",
  });
}
