// Thanos and its baselines on one layer of `readLayer`: docs/specification.md, sections 3, 4 and 6.

import { floorOf, ceilOf, columnsRemoved } from "./pattern.mjs";
import { cholesky, solve } from "./linear.mjs";

// Returns { weight, mask, losses }: numbers row by row, and the loss of every block.
export function prune(layer) {
  const { method, pattern, c, b } = layer;
  const state = { ...layer, W: Float64Array.from(layer.scaled), mask: new Uint8Array(c * b) };
  if (method === "sparsegpt") sparsegpt(state);
  else if (method !== "thanos") zeroed(state);
  else if (pattern.kind === "structured") structured(state);
  else blockwise(state);
  const weight = state.W.map((x, k) => inUnits(layer, x, k));
  return { weight, mask: state.mask, losses: blockLosses(state, layer.scaled) };
}

// A weight in the units of the input; one that has not moved has the bits that it had.
function inUnits({ W, scaled, e }, x, k) {
  return x === scaled[k] && x !== 0 ? W[k] : x * 2 ** e;
}

// Thanos, unstructured and n:m: block after block, each mask from the weights as they are by then.
function blockwise(state) {
  const { pattern, c, b, blockSize, mask } = state;
  const rows = prunedRows(state);
  let left = pattern.kind === "unstructured" ? floorOf(pattern.p, c * b) : 0;
  for (let j1 = 0; j1 < b; j1 += blockSize) {
    const j2 = Math.min(j1 + blockSize, b);
    const score = (k) => saliency(state, k);
    if (pattern.kind === "n:m") {
      for (const i of rows) markGroups(state, i, j1, j2, score);
    } else {
      const chosen = smallest(places(rows, j1, b, b), left, score).filter((k) => k % b < j2);
      for (const k of chosen) mask[k] = 1; // (3)
      left -= chosen.length;
    }
    for (const i of rows) {
      const q = columns(j1, j2).filter((j) => mask[i * b + j]);
      lose(state, [i], q, j1, j2);
    }
  }
}

// Thanos, structured: the columns of least value at once, (5).
function structured(state) {
  const { pattern, b, W, G, mask } = state;
  const rows = prunedRows(state);
  if (rows.length === 0) return;
  const value = (j) => G[j * b + j] * sum(rows, (i) => W[i * b + j] ** 2);
  const q = smallest(columns(0, b), columnsRemoved(pattern, b), value);
  for (const i of rows) for (const j of q) mask[i * b + j] = 1;
  lose(state, rows, q, 0, b);
}

// Rows lose the columns q of the block [j1, j2) together, (6).
function lose({ W, U, b }, rows, q, j1, j2) {
  if (q.length === 0) return;
  const n = q.length;
  const Rqq = new Float64Array(n * n); // V^T V, where V is the columns q of the block of U
  for (let s = 0; s < n; s++)
    for (let t = 0; t <= s; t++) {
      let entry = 0;
      for (let k = j1; k < j2; k++) entry += U[k * b + q[s]] * U[k * b + q[t]];
      Rqq[s * n + t] = Rqq[t * n + s] = entry;
    }
  const L = cholesky(Rqq, n);
  for (const i of rows) {
    const mu = solve(L, q.map((j) => W[i * b + j]));
    for (let k = j1; k < j2; k++) {
      const step = sum(columns(0, n), (s) => U[k * b + q[s]] * mu[s]); // V mu
      for (let j = k; j < b; j++) W[i * b + j] -= step * U[k * b + j];
    }
    for (const j of q) W[i * b + j] = 0;
  }
}

// Magnitude and Wanda: the smallest scores are set to zero, and nothing else moves.
function zeroed(state) {
  const { method, pattern, c, b, W, mask } = state;
  const score = method === "wanda" ? (k) => saliency(state, k) : (k) => Math.abs(W[k]);
  const rows = columns(0, c);
  const mark = (chosen) => chosen.forEach((k) => (mask[k] = 1));
  if (pattern.kind === "n:m") {
    for (const i of rows) markGroups(state, i, 0, b, score);
  } else if (pattern.kind === "structured") {
    const value = (j) => sum(rows, (i) => score(i * b + j));
    const q = smallest(columns(0, b), ceilOf(pattern.p, b), value);
    mark(q.flatMap((j) => rows.map((i) => i * b + j)));
  } else if (method === "wanda") {
    for (const i of rows) mark(smallest(places([i], 0, b, b), floorOf(pattern.p, b), score));
  } else {
    mark(smallest(places(rows, 0, b, b), floorOf(pattern.p, c * b), score));
  }
  mask.forEach((removed, k) => removed && (W[k] = 0));
}

// SparseGPT: column after column, with the columns before it frozen.
function sparsegpt(state) {
  const { pattern, c, b, blockSize, W, U, mask } = state;
  const rows = columns(0, c);
  const score = (k) => (W[k] / U[(k % b) * (b + 1)]) ** 2;
  for (let j1 = 0; j1 < b; j1 += blockSize) {
    const j2 = Math.min(j1 + blockSize, b);
    if (pattern.kind === "unstructured") {
      const count = floorOf(pattern.p, c * j2) - floorOf(pattern.p, c * j1);
      for (const k of smallest(places(rows, j1, j2, b), count, score)) mask[k] = 1;
    } else if (pattern.kind === "structured") {
      const count = ceilOf(pattern.p, j2) - ceilOf(pattern.p, j1);
      const value = (j) => sum(rows, (i) => score(i * b + j));
      for (const j of smallest(columns(j1, j2), count, value))
        for (const i of rows) mask[i * b + j] = 1;
    }
    for (let j = j1; j < j2; j++) {
      if (pattern.kind === "n:m" && j % pattern.m === 0)
        for (const i of rows) markGroups(state, i, j, j + pattern.m, score);
      for (const i of rows.filter((i) => mask[i * b + j])) {
        const step = W[i * b + j] / U[j * b + j];
        for (let l = j; l < b; l++) W[i * b + l] -= step * U[j * b + l];
        W[i * b + j] = 0;
      }
    }
  }
}

// The score of the weight at place k, (2).
function saliency({ W, G, b }, k) {
  return Math.abs(W[k]) * Math.sqrt(G[(k % b) * (b + 1)]);
}

// Marks the n weights of smallest score in every group of the columns [j1, j2) of row i, (4).
function markGroups({ pattern, mask, b }, i, j1, j2, score) {
  for (let j = j1; j < j2; j += pattern.m)
    for (const k of smallest(places([i], j, j + pattern.m, b), pattern.n, score)) mask[k] = 1;
}

// All rows but the outlier rows: those with the largest h = W G W^T, ties to the lower index.
function prunedRows({ pattern, c, b, W, G }) {
  const h = columns(0, c).map((i) => {
    const x = W.subarray(i * b, i * b + b);
    return sum(columns(0, b), (j) => x[j] * sum(columns(0, b), (l) => G[j * b + l] * x[l]));
  });
  const outliers = new Set(smallest(columns(0, c), ceilOf(pattern.a, c), (i) => -h[i]));
  return columns(0, c).filter((i) => !outliers.has(i));
}

// The squares of E = D K, summed over the columns of each block; in the units of the input.
function blockLosses({ method, pattern, W, K, c, b, blockSize, e, g }, before) {
  const width = method === "thanos" && pattern.kind === "structured" ? b : Math.min(blockSize, b);
  const losses = new Float64Array(Math.ceil(b / width));
  for (let i = 0; i < c; i++)
    for (let j = 0; j < b; j++) {
      let entry = 0;
      for (let l = 0; l <= j; l++) entry += (W[i * b + l] - before[i * b + l]) * K[l * b + j];
      losses[Math.floor(j / width)] += entry ** 2;
    }
  return losses.map((loss) => loss * 2 ** e * 2 ** e * 2 ** g);
}

// The `count` items with the smallest values, ties to the one that comes first.
function smallest(items, count, value) {
  const values = items.map(value);
  const order = items.map((_, k) => k).sort((k, l) => values[k] - values[l] || k - l);
  return order.slice(0, count).map((k) => items[k]);
}

// The places of the columns [j1, j2) in some rows.
function places(rows, j1, j2, b) {
  return rows.flatMap((i) => columns(j1, j2).map((j) => i * b + j));
}

// [from, to) as a list.
function columns(from, to) {
  return Array.from({ length: to - from }, (_, k) => from + k);
}

function sum(items, value) {
  return items.reduce((total, item) => total + value(item), 0);
}
