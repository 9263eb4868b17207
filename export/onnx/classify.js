// Classifies images with an exported ONNX model in a browser, by onnxruntime-web; classify.html is a page that uses it:
//
//     const classifier = await Classifier.load("model.onnx", "onnxruntime-web/");
//     const { classes, milliseconds } = await classifier.classify(file);
//
// model.onnx.json must lie beside the model: labels and how images are prepared are in it.

import { described, prepared } from "./prepare_image.js";

export class Classifier {
  // `runtime` is a folder with ort.wasm.min.js, ort-wasm-simd-threaded.mjs and .wasm of the npm package onnxruntime-web.
  static async load(model, runtime) {
    const sidecar = await fetched(`${model}.json`, "the sidecar that was written with the model");
    const about = await sidecar.json().catch(() => {
      throw new Error(`${model}.json is damaged; export the model again`);
    });
    const metadata = (about && about.metadata) || {};
    if (metadata.labels === undefined) throw new Error(`${model}.json has no labels: it was not written by nasvit-edge`);
    const preparation = described(metadata);
    const content = new Uint8Array(await (await fetched(model, "the model")).arrayBuffer());
    const ort = await runtimeOf(runtime);
    const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
    return new Classifier(ort, session, metadata, preparation);
  }

  constructor(ort, session, metadata, preparation) {
    Object.assign(this, { ort, session, preparation });
    this.labels = JSON.parse(metadata.labels);
    this.batch = Number(metadata.batch) || 1; // "dynamic": one
  }

  // The five likeliest classes of an image file (a Blob), and how long the second run took: the first one packs weights.
  async classify(blob) {
    const input = this.input(await prepared(blob, this.preparation));
    await this.session.run({ image: input });
    const start = performance.now();
    const { logits } = await this.session.run({ image: input });
    const milliseconds = performance.now() - start;
    const shares = softmax(logits.data.subarray(0, this.labels.length));
    const classes = topFive(shares).map((index) => ({ label: this.labels[index], probability: shares[index] }));
    return { classes, milliseconds };
  }

  // The tensor of an image: every one of the batch is the same.
  input(values) {
    const [height, width] = this.preparation.size;
    const data = new Float32Array(this.batch * values.length);
    for (let i = 0; i < this.batch; i += 1) data.set(planes(values), i * values.length);
    return new this.ort.Tensor("float32", data, [this.batch, 3, height, width]);
  }
}

// Pixels of three to three planes.
export function planes(values) {
  const size = values.length / 3;
  return values.map((_, i) => values[(i % size) * 3 + Math.floor(i / size)]);
}

// Logits to probabilities; without the largest first, exp could overflow.
export function softmax(logits) {
  const largest = logits.reduce((best, value) => Math.max(best, value), -Infinity);
  const shares = Float64Array.from(logits, (value) => Math.exp(value - largest));
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
}

// The classes of the five largest, the lower index first where equal: the sort is stable.
export function topFive(probabilities) {
  return [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, 5);
}

async function fetched(url, what) {
  const answer = await fetch(url, { cache: "no-cache" }).catch(() => null);
  if (!answer || !answer.ok) throw new Error(`${url} cannot be read: it is ${what}, and must lie on this server`);
  return answer;
}

let loading = null;

// onnxruntime-web, loaded once; on one thread, as pages without cross-origin isolation have to.
async function runtimeOf(folder) {
  const base = new URL(folder.endsWith("/") ? folder : `${folder}/`, document.baseURI).href;
  loading ??= script(`${base}ort.wasm.min.js`).catch((error) => {
    loading = null;
    throw error;
  });
  await loading;
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = 1;
  return ort;
}

function script(url) {
  return new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src: url, onload: resolve });
    element.onerror = () => reject(new Error(`${url} cannot be read: run npm pack onnxruntime-web, and unpack its dist there`));
    document.head.append(element);
  });
}
