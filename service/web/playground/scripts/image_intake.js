/** Intake of an image: dropped, pasted, chosen, or one of the examples. */

/**
 * @typedef {Object} TakenImage
 * @property {Blob} blob The encoded file.
 * @property {string} name
 * @property {string|null} address Of an example, its address on the service.
 * @property {number} left Files that were handed over with it and not taken.
 */

/**
 * @param {Object} parts
 * @param {HTMLInputElement} parts.input
 * @param {NodeListOf<HTMLButtonElement>} parts.examples
 * @param {HTMLElement} parts.target Marked while a file is dragged over the page.
 * @param {(image: TakenImage) => void} onImage
 * @param {(words: string) => void} onNothing Called with the reason why there is no image.
 */
export function takeImages({ input, examples, target }, onImage, onNothing) {
  const take = (files, none) => {
    if (!files.length) return onNothing(none);
    const [file, ...others] = files;
    return onImage({ blob: file, name: file.name || "image", address: null, left: others.length });
  };

  input.addEventListener("change", () => {
    if (input.files.length) take([...input.files]);
    // The same file may be chosen again.
    input.value = "";
  });

  for (const button of examples) {
    button.addEventListener("click", async () => {
      const address = new URL(button.dataset.example, document.baseURI).href;
      try {
        const response = await fetch(address);
        if (!response.ok) throw new TypeError(response.statusText);
        onImage({ blob: await response.blob(), name: address.split("/").at(-1), address, left: 0 });
      } catch {
        onNothing("The example could not be fetched. Is the service running?");
      }
    });
  }

  document.addEventListener("paste", (event) => {
    if (event.target instanceof HTMLInputElement && event.target.type !== "file") return;
    take([...event.clipboardData.files], "The clipboard holds no image.");
  });

  followDrags(target);
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const none = "That is not a file. The service does not fetch addresses: save the image first.";
    take([...event.dataTransfer.files], none);
  });
}

function followDrags(target) {
  const mark = (dragged) => target.toggleAttribute("data-dragged", dragged);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) mark(false);
  });
  document.addEventListener("drop", () => mark(false));
}
