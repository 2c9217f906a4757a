// How many bytes a pruned layer takes in each format: refimpl.formats.storage for any layer.
//
// <div class="storage-explorer" data-rows="300" data-columns="784" data-sparsity="90">
//   <p>text for readers without JavaScript</p>
// </div>
//
// tests/book/test_storage_explorer.py compares the formulas, and what the page shows, with refimpl.
"use strict";
(() => {
  const VALUES = {float64: 8, float32: 4, float16: 2, int8: 1}; // bytes
  const INDICES = {int32: 4, int64: 8};
  const LARGEST = {int32: 2 ** 31 - 1, int64: Infinity}; // what an index counts to
  const BLOCKS = ["2 × 2", "4 × 4", "8 × 8", "16 × 16", "1 × 16"];
  const MOST = 1_000_000; // rows, and columns
  const ANY = "any mask";

  // n - floor(s n + 1/2), where 100 s is the decimal number in `percent`: refimpl.masks.count_kept.
  function countKept(size, percent) {
    const [whole, decimals = ""] = percent.split(".");
    const scale = 100n * 10n ** BigInt(decimals.length);
    const removed = (2n * BigInt(whole + decimals) * BigInt(size) + scale) / (2n * scale);
    return size - Number(removed);
  }

  // The formulas of refimpl/formats/storage.py. Shapes are [rows, columns].
  const denseBytes = ([m, n], value) => m * n * value;
  const cooBytes = (nnz, value, index) => nnz * (value + 2 * index);
  const csrBytes = ([m], nnz, value, index) => nnz * (value + index) + (m + 1) * index;
  const cscBytes = ([m, n], nnz, value, index) => csrBytes([n, m], nnz, value, index);
  const bitmapBytes = ([m, n], nnz, value) => m * Math.ceil(n / 8) + nnz * value;
  const bsrBytes = ([m], nBlocks, [r, c], value, index) =>
    nBlocks * (r * c * value + index) + (m / r + 1) * index;
  const twoFourBytes = ([m, n], value) => m * n / 2 * value + 4 * m * Math.ceil(n / 32);
  const relativeCscBytes = ([, n], stored, value, index) =>
    stored * value + Math.ceil(stored / 2) + (n + 1) * index;
  const codebookCscBytes = ([, n], stored, nValues, value, index) =>
    stored + nValues * value + (n + 1) * index;

  // A block is empty if its first position is one of the mask's zeros, and the second, and so on.
  function expectedBlocks([m, n], nnz, [r, c]) {
    const size = m * n, zeros = size - nnz;
    let empty = 1;
    for (let i = 0; i < r * c; i++) empty *= Math.max(0, zeros - i) / (size - i);
    return size / (r * c) * (1 - empty);
  }

  // An entry needs a filler for every 16 zeros before it, and one in `density` rows is an entry.
  function expectedFillers(m, density) {
    let sum = 0;
    for (let zeros = 16; zeros < m; zeros += 16) sum += (m - zeros) * (1 - density) ** zeros;
    return density * sum;
  }

  // The rows of the table. `bytes` is null where the format cannot hold the layer; `why` says so.
  function storage({shape: [m, n], percent, value, index, block: [r, c]}) {
    const shape = [m, n], size = m * n, v = VALUES[value], i = INDICES[index];
    const nnz = countKept(size, percent);
    const stored = nnz + Math.round(n * expectedFillers(m, nnz / size)); // with fillers
    const ragged = (m % r || n % c) && "blocks do not fill the shape";
    const touched = ragged ? 0 : Math.round(expectedBlocks(shape, nnz, [r, c]));
    const kept = ragged ? 0 : countKept(size / (r * c), percent);
    const narrow = (...counts) => Math.max(...counts) > LARGEST[index] && `${index} is too narrow`;
    const pointed = narrow(m, n, nnz), filled = narrow(m, n, stored);
    const grouped = n % 4 ? "columns no multiple of 4" : 2 * nnz > size && "keeps half at most";

    const row = (name, mask, why, bytes, expected = false) =>
      ({name, mask, why: why || "", bytes: why ? null : bytes, expected});
    const bsr = (mask, nBlocks, expected) => row("BSR", mask,
      ragged || narrow(m / r, n / c, nBlocks), bsrBytes(shape, nBlocks, [r, c], v, i), expected);
    return {nnz, rows: [
      row("dense", ANY, "", denseBytes(shape, v)),
      row("COO", ANY, pointed, cooBytes(nnz, v, i)),
      row("CSR", ANY, pointed, csrBytes(shape, nnz, v, i)),
      row("CSC", ANY, pointed, cscBytes(shape, nnz, v, i)),
      row("bitmap", ANY, "", bitmapBytes(shape, nnz, v)),
      row("relative", "random, expected", filled, relativeCscBytes(shape, stored, v, i), true),
      row("codebook", "15 values, expected", filled,
        codebookCscBytes(shape, stored, 15, v, i), true),
      bsr("random, expected", touched, true),
      bsr("whole blocks", kept, false),
      row("2:4", "two of four", grouped, twoFourBytes(shape, v)),
    ]};
  }

  // Of equally small formats the first; an expectation is no size.
  function smallest(rows) {
    const exact = rows.filter(({bytes, expected}) => bytes !== null && !expected);
    return exact.reduce((best, row) => row.bytes < best.bytes ? row : best);
  }

  // The page.

  const count = number => number.toLocaleString("en");
  const percentage = (part, whole) => `${(100 * part / whole).toFixed(1)} %`;

  function sentence({nnz, rows}, size) {
    const any = smallest(rows.filter(({mask}) => mask === ANY)), all = smallest(rows);
    const share = ({name, bytes}) =>
      `${name}, ${count(bytes)} bytes, ${percentage(bytes, rows[0].bytes)} of dense`;
    const rest = all === any ? "." : `; for ${all.mask}: ${share(all)}.`;
    return `${count(nnz)} of ${count(size)} weights kept. `
      + `Smallest for any mask: ${share(any)}${rest}`;
  }

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function line({name, mask, why, bytes, expected}, dense) {
    const total = bytes === null ? "–" : (expected ? "≈ " : "") + count(bytes);
    const share = bytes === null ? "–" : percentage(bytes, dense);
    const over = bytes > 2 * dense ? " storage-explorer-over" : "";
    const bar = element("div", {class: `storage-explorer-bar${over}`});
    bar.style.setProperty("--share", bytes / dense);
    return element("tr", {},
      element("th", {scope: "row"}, name, " ", element("small", {}, why || mask)),
      element("td", {}, total, " ", element("small", {}, share)),
      element("td", {"aria-hidden": "true"}, bar));
  }

  function build(root, number) {
    const id = name => `storage-explorer-${number}-${name}`;
    const size = (name, value) => element("input",
      {id: id(name), type: "number", min: 1, max: MOST, step: 1, required: "", value});
    const choice = (name, options) => element("select", {id: id(name)},
      ...options.map(option => element("option", {}, option)));
    const rows = size("rows", root.dataset.rows);
    const columns = size("columns", root.dataset.columns);
    const sparsity = element("input", {id: id("sparsity"), type: "range",
      min: 0, max: 99.9, step: 0.1, value: root.dataset.sparsity});
    const values = choice("values", Object.keys(VALUES));
    const indices = choice("indices", Object.keys(INDICES));
    const blocks = choice("blocks", BLOCKS);
    values.value = "float32";
    blocks.value = "4 × 4";

    const shown = element("output", {for: sparsity.id});
    const spoken = element("p", {"aria-live": "polite"});
    const lines = element("tbody");
    const field = (input, label, ...more) => element("div", {},
      element("label", {for: input.id}, label, ...more), input);
    const axis = element("th", {"aria-hidden": "true"},
      element("div", {}, ...["0", "dense", "2 ×"].map(text => element("span", {}, text))));
    const heads = [["Format", "mask"], ["Bytes", "of dense"]].map(([text, more]) =>
      element("th", {scope: "col"}, text, " ", element("small", {}, more)));
    root.replaceChildren(
      element("div", {class: "storage-explorer-inputs"},
        field(rows, "Rows"), field(columns, "Columns"), field(sparsity, "Sparsity", shown),
        field(values, "Values"), field(indices, "Indices"), field(blocks, "Blocks of BSR")),
      spoken,
      element("table", {}, element("thead", {}, element("tr", {}, ...heads, axis)), lines));

    function show() {
      shown.textContent = `${sparsity.value} %`;
      sparsity.setAttribute("aria-valuetext", shown.textContent);
      const valid = rows.checkValidity() && columns.checkValidity();
      lines.classList.toggle("storage-explorer-stale", !valid);
      if (!valid) {
        spoken.textContent = `Rows and columns must be whole numbers from 1 to ${count(MOST)}.`;
        return;
      }
      const shape = [rows.valueAsNumber, columns.valueAsNumber];
      const block = blocks.value.split(" × ").map(Number);
      const found = storage({
        shape, percent: sparsity.value, value: values.value, index: indices.value, block});
      spoken.textContent = sentence(found, shape[0] * shape[1]);
      lines.replaceChildren(...found.rows.map(row => line(row, found.rows[0].bytes)));
    }
    root.addEventListener("input", show);
    show();
  }

  globalThis.storageExplorer = {countKept, storage, smallest}; // for the test
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".storage-explorer").forEach(build);
  });
})();
