// A slider over masks that a chapter computed with refimpl when the book was built.
//
// <div class="sparsity-demo">
//   <p class="sparsity-demo-static">text for readers without JavaScript</p>
//   <script type="application/json">
//     {"shape": [rows, cols], "total": 50200, "start": 10,
//      "metrics": [["accuracy", "test accuracy"], ...],
//      "frames": [{"sparsity": 0.5, "kept": 128, "accuracy": 0.97, "mask": "0110..."}, ...]}
//   </script>
// </div>
//
// `mask` holds the matrix row by row, 1 for a kept weight. `total` is what `kept` counts from,
// where the picture shows only a part of the network. `start` is the frame shown first;
// it is also the one that is printed. Text from the data reaches the page only through
// textContent and attributes.
"use strict";
(() => {
  const WIDTH = 384, HEIGHT = 256; // most CSS pixels of the drawn mask

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  // 90 %, but 99.5 %: as many decimals as the frame needs, no more.
  function percent(fraction) {
    return `${Number((100 * fraction).toFixed(1))} %`;
  }

  function sentence(frame, data) {
    const total = data.total ?? data.shape[0] * data.shape[1];
    const values = (data.metrics ?? []).map(([key, label]) => `${label} ${frame[key].toFixed(3)}`);
    return [`${frame.kept} of ${data.total} weights kept`, ...values].join("; ");
  }

  // One square a weight, whole pixels, a gap where there is room for one.
  function drawMask(canvas, mask, [rows, cols]) {
    const context = canvas.getContext("2d"), style = getComputedStyle(canvas);
    const scale = window.devicePixelRatio || 1;
    const cell = Math.max(1, Math.floor(scale * Math.min(WIDTH / cols, HEIGHT / rows)));
    const gap = cell >= 6 ? 1 : 0;
    canvas.width = cols * cell;
    canvas.height = rows * cell;
    canvas.style.width = `${canvas.width / scale}px`;
    const kept = style.getPropertyValue("--pst-color-primary").trim() || "#0b5394";
    const pruned = style.getPropertyValue("--pst-color-surface").trim() || "#eeeeee";
    for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) {
      context.fillStyle = mask[i * cols + j] === "1" ? kept : pruned;
      context.fillRect(j * cell, i * cell, cell - gap, cell - gap);
    }
  }

  function build(root, number) {
    const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const id = `sparsity-demo-${number}`;
    const output = element("output", {for: id});
    const input = element("input", {id, type: "range", min: 0, max: data.frames.length - 1, step: 1});
    const canvas = element("canvas", {role: "img"});
    const spoken = element("p", {"aria-live": "polite"});
    const key = element("p", {class: "sparsity-demo-key", "aria-hidden": "true"},
      element("span", {class: "kept"}), "kept", element("span", {class: "pruned"}), "pruned");
    const say = element("div", {class: "sparsity-demo-say"}, spoken, key);
    root.append(
      element("label", {for: id}, "Sparsity", output), input,
      element("div", {class: "sparsity-demo-body"}, canvas, say));
    root.querySelector(".sparsity-demo-static")?.remove();
    input.value = data.start ?? 0;

    function show() {
      const frame = data.frames[Number(input.value)], text = sentence(frame, data);
      drawMask(canvas, frame.mask, data.shape);
      output.textContent = percent(frame.sparsity);
      spoken.textContent = text;
      input.setAttribute("aria-valuetext", `${output.textContent} sparsity`);
      canvas.setAttribute("aria-label", `Mask at ${output.textContent} sparsity: ${text}`);
    }
    input.addEventListener("input", show);
    new MutationObserver(show).observe(document.documentElement, {attributeFilter: ["data-theme"]});
    show();
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".sparsity-demo").forEach(build);
  });
})();
