// Thanos as a program under test, docs/vectors.md:
//
//     node thanos.mjs INPUT OUTPUT      prune one case
//     node thanos.mjs --describe        print what is supported, as JSON
//     node thanos.mjs --serve           prune many cases: a request and an answer a line

import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { encode } from "./safetensors.mjs";
import { Refusal } from "./pattern.mjs";
import { readLayer } from "./layer.mjs";
import { prune } from "./prune.mjs";

const DESCRIPTION = {
  name: "Thanos in JavaScript",
  methods: ["thanos", "magnitude", "wanda", "sparsegpt"],
  dtypes: ["float64", "float32"],
  storage: ["float16", "bfloat16"],
  refusals: true,
  arithmetic: "float64",
};

function pruneFile(input, output) {
  const layer = readLayer(readFileSync(input));
  const { weight, mask, losses } = prune(layer);
  const shape = [layer.c, layer.b];
  const tensors = {
    weight: { type: layer.type, shape, values: weight },
    mask: { type: "U8", shape, values: mask },
  };
  if (losses.every(Number.isFinite))
    tensors.block_losses = { type: "F64", shape: [losses.length], values: losses };
  writeFileSync(output, encode(tensors));
}

// Answers requests until standard input ends. Standard output is for answers alone.
async function serve() {
  const tell = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  tell({ status: "ready" });
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, input, output } = JSON.parse(line);
    try {
      pruneFile(input, output);
      tell({ id, status: "done" });
    } catch (error) {
      const status = error instanceof Refusal ? "refused" : "failed";
      tell({ id, status, message: error.message });
    }
  }
}

function pruneOne(input, output) {
  try {
    pruneFile(input, output);
  } catch (error) {
    console.error(error.message);
    process.exitCode = error instanceof Refusal ? 2 : 1;
  }
}

const [first, second, ...more] = process.argv.slice(2);
if (first === "--describe") {
  console.log(JSON.stringify(DESCRIPTION));
} else if (first === "--serve") {
  await serve();
} else if (second && more.length === 0) {
  pruneOne(first, second);
} else {
  console.error("usage: node thanos.mjs INPUT OUTPUT | --describe | --serve");
  process.exitCode = 1;
}
