// Score windows of token ids with llama.cpp: node score.mjs MODEL.gguf ASKED.json ANSWER.json
//
// asked   windows: token ids, all of one length; texts: to tokenize; threads
// answer  losses: for each window the negative log-likelihood, in nats, of every token but the
//         first; ids: of each text, without special tokens; release and system: of llama.cpp
import {readFile, writeFile} from "node:fs/promises";
import {getLlama} from "node-llama-cpp";

const [modelPath, askedPath, answerPath] = process.argv.slice(2);
const {windows, texts, threads} = JSON.parse(await readFile(askedPath, "utf8"));
const size = windows[0].length;
const llama = await getLlama({gpu: false, build: "never", maxThreads: threads, logLevel: "error"});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({contextSize: size, batchSize: size, threads});
const sequence = context.getSequence();

// The whole distribution as the model has it: no sampler may leave out a token.
const generateNext = {probabilities: true, options: {temperature: 1, topK: 0, topP: 1, minP: 0}};

// The probabilities are divided by a sum in float32, in which the smallest get lost: it is too
// small by up to 0.1 %. So they are divided by their sum in float64 once more.
function loss(probabilities, token) {
    let sum = 0;
    for (const each of probabilities.values()) sum += each;
    return Math.log(sum) - Math.log(probabilities.get(token) ?? 0);
}

async function lossesOf(ids) {
    const losses = [];
    await sequence.clearHistory();
    await sequence.controlledEvaluate(ids.map((id) => [id, {generateNext}]), {
        onTokenResult(index, result) {
            const {probabilities} = result.next;
            if (index + 1 < size) losses[index] = loss(probabilities, ids[index + 1]);
            probabilities.clear();  // or all of them stay in memory until the window is done
        }
    });
    return losses;
}

const losses = [];
for (const ids of windows) losses.push(await lossesOf(ids));
const answer = {
    losses,
    ids: texts.map((text) => model.tokenize(text)),
    release: llama.llamaCppRelease.release,
    system: llama.systemInfo
};
await writeFile(answerPath, JSON.stringify(answer));
process.exit(0);
