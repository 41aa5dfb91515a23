// One layer as it lies in an input file, checked: docs/specification.md, the table of refusals.

import { parse, isFloating, exponentOf } from "./safetensors.mjs";
import { parsePattern, columnsRemoved, Refusal } from "./pattern.mjs";
import { factor } from "./linear.mjs";

const METHODS = ["thanos", "magnitude", "wanda", "sparsegpt"];

// Returns the layer: method, pattern, blockSize, type (of the weights), and
//   c, b, W   rows, columns and weights, as they were given
//   G, lambda, U, K   (G + G^T) / 2, the damping, and H = K K^T, U = inverse of K, upper triangular
//   e, g   what W and G, lambda were divided by: W by 2^e, and G by 2^g; `scaled` is W / 2^e
// Throws a Refusal for an input that must be refused, and another Error for a malformed file.
export function readLayer(bytes) {
  const { metadata, tensors } = parse(bytes);
  for (const key of ["method", "pattern", "block_size", "damping"])
    if (typeof metadata[key] !== "string") throw new Error(`the file has no ${key}`);
  for (const name of ["weight", "gram"])
    if (!tensors[name]) throw new Error(`the file has no tensor ${name}`);
  if (!METHODS.includes(metadata.method)) throw new Error(`there is no method ${metadata.method}`);

  // The order of the checks is that of the table.
  const pattern = parsePattern(metadata.pattern);
  if (metadata.method !== "thanos" && pattern.a.top > 0n)
    throw new Refusal(`outlier_rows must be 0 for ${metadata.method}, got ${pattern.a.text}`);
  const damping = Number(metadata.damping);
  if (!(damping > 0 && damping < Infinity))
    throw new Refusal(`damping must be positive and finite, got ${metadata.damping}`);
  checkMatrix("weight", tensors.weight);
  checkMatrix("gram", tensors.gram);
  const [c, b] = tensors.weight.shape;
  checkGram(tensors.gram, b);
  const blockSize = Number(metadata.block_size);
  checkSizes(pattern, b, blockSize, metadata.block_size);

  const W = tensors.weight.values;
  const e = exponentOfLargest(W);
  const layer = { method: metadata.method, pattern, blockSize, type: tensors.weight.type, c, b, W, e };
  return { ...layer, scaled: W.map((x) => x / 2 ** e), ...hessian(tensors.gram.values, b, damping) };
}

function checkMatrix(name, { type, shape, values }) {
  if (shape.length !== 2 || shape.includes(0))
    throw new Refusal(`${name} must be a matrix with entries, got the shape ${shapeText(shape)}`);
  if (!isFloating(type))
    throw new Refusal(`${name} must hold floating-point numbers, got ${type}`);
  const bad = values.find((x) => !Number.isFinite(x));
  if (bad !== undefined) throw new Refusal(`${name} must be finite, got ${bad}`);
}

const shapeText = (shape) => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;

function checkGram({ shape, values: G }, b) {
  if (shape[0] !== b || shape[1] !== b)
    throw new Refusal(`gram must be ${b} x ${b}, got the shape ${shapeText(shape)}`);
  for (let j = 0; j < b; j++)
    if (G[j * b + j] < 0)
      throw new Refusal(`gram must have no negative entry on its diagonal, got ${G[j * b + j]}`);
  for (let j = 0; j < b; j++)
    if (G[j * b + j] === 0 && G.subarray(j * b, j * b + b).some((x) => x !== 0))
      throw new Refusal(`gram must be zero in row ${j}, where its diagonal is 0`);
  for (let i = 0; i < b; i++)
    for (let j = 0; j < i; j++) {
      const [one, other] = [G[i * b + j], G[j * b + i]];
      const limit = 1e-5 * Math.sqrt(G[i * b + i]) * Math.sqrt(G[j * b + j]);
      if (Math.abs(one - other) > limit)
        throw new Refusal(`gram must be symmetric, got ${one} and ${other} at ${i}, ${j}`);
    }
}

function checkSizes(pattern, b, blockSize, text) {
  if (!Number.isInteger(blockSize) || blockSize < 1)
    throw new Refusal(`block_size must be a whole number from 1 on, got ${text}`);
  if (pattern.kind === "n:m" && b % pattern.m)
    throw new Refusal(`m must divide the ${b} columns, got ${pattern.m}`);
  if (pattern.kind === "n:m" && blockSize < b && blockSize % pattern.m)
    throw new Refusal(`block_size must be a multiple of m = ${pattern.m}, got ${blockSize}`);
  if (pattern.kind === "structured" && columnsRemoved(pattern, b) > b)
    throw new Refusal(
      `sparsity ${pattern.p.text} with outlier_rows ${pattern.a.text} removes more than ${b} columns`,
    );
}

// The damped matrix H, factored, in units in which the largest entry of the diagonal is about 1.
function hessian(given, b, damping) {
  const g = 2 * Math.floor(exponentOfLargest(given.filter((_, k) => k % (b + 1) === 0)) / 2);
  const G = new Float64Array(b * b);
  for (let i = 0; i < b; i++)
    for (let j = 0; j < b; j++)
      G[i * b + j] = (given[i * b + j] / 2 ** g + given[j * b + i] / 2 ** g) / 2;
  let trace = 0;
  for (let j = 0; j < b; j++) trace += G[j * b + j];
  const lambda = trace === 0 ? 1 : (damping * trace) / b;
  const H = G.map((x, k) => (k % (b + 1) === 0 ? x + lambda : x));
  const factors = factor(H, b);
  if (!factors) throw new Refusal("gram plus the damping must be positive definite");
  return { G, g, ...factors };
}

function exponentOfLargest(values) {
  const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  return largest === 0 ? 0 : exponentOf(largest);
}
