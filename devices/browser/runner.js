"use strict";
// Times models in a worker: {type: "start", ...} first, then a job with its model; answers with a measurement or an error.
// Only session.run is timed. The same stop rule as devices/host/runner.py; README.md says what differs, and why.

const SAMPLE_MS = 0.5; // aim: a sample lasts at least this long ...
const STEPS = 50; // ... and this many steps of the clock
const WARM_RUNS = 3;
const WARM_MS = 100; // engines compile hot code anew meanwhile
const YOUNG_JOBS = 12; // of a fresh worker: most code is compiled for the first time
const YOUNG_MS = 500;
const WARM_MOST_MS = 2000;
const STEADY = 0.97; // warm as long as a batch is faster than this times the best before
const WINDOW_MS = 1000;
const KEPT = 5000; // samples of a sustained run

let settings = null;
let clockMs = 0;
let jobs = 0;

onmessage = async ({ data }) => {
  try {
    postMessage(data.type === "start" ? await start(data) : await measure(data.job, data.model));
  } catch (error) {
    const text = String((error && error.message) || error).replace(/\s+/g, " ").slice(0, 300);
    postMessage({ error: text || "the runtime failed" });
  }
};

async function start(wanted) {
  settings = wanted;
  importScripts(`ort/ort.${wanted.runtime === "onnxruntime-webgpu" ? "webgpu" : "wasm"}.min.js`);
  ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
  ort.env.wasm.numThreads = wanted.threads;
  ort.env.logLevel = "error";
  clockMs = clockStep();
  return { started: true, clock_us: 1000 * clockMs };
}

// The step of the clock in ms: the smallest of some changes. Browsers coarsen it, pages that are not isolated most.
function clockStep() {
  let step = Infinity;
  const begin = performance.now();
  for (let changes = 0, last = begin; changes < 20 && last - begin < 500; ) {
    const now = performance.now();
    if (now > last) {
      step = Math.min(step, now - last);
      last = now;
      changes += 1;
    }
  }
  return Math.max(step, 1e-4);
}

async function measure(job, model) {
  const before = performance.now();
  const session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: [settings.runtime === "onnxruntime-webgpu" ? "webgpu" : "wasm"],
    graphOptimizationLevel: "all",
  });
  try {
    const loaded = performance.now();
    const feeds = { [session.inputNames[0]]: input(job.input.shape, job.seed) };
    const call = () => session.run(feeds);
    await call(); // packs weights: counted apart
    const first = performance.now();
    const fastest = await warmUp(call);
    const inner = Math.max(1, Math.ceil(Math.max(SAMPLE_MS, STEPS * clockMs) / fastest));
    const taken = job.sustained_s ? await sustained(call, inner, job) : { samples_us: await samples(call, inner, job) };
    jobs += 1;
    return {
      ...taken,
      inner,
      load_ms: Math.max(loaded - before, clockMs),
      first_ms: Math.max(first - loaded, clockMs),
      clock_us: 1000 * clockMs,
      runtime_version: String(ort.env.versions.web || ort.env.versions.common),
      flags: clockMs > 0.05 ? ["coarse clock"] : [],
    };
  } finally {
    await session.release();
  }
}

// Run until it gets no faster; the fastest call in ms. A batch is long enough for the clock.
async function warmUp(call) {
  const least = jobs < YOUNG_JOBS ? YOUNG_MS : WARM_MS;
  const batchMs = Math.max(least / 4, 10 * clockMs);
  const start = performance.now();
  let fastest = Infinity;
  for (;;) {
    const begin = performance.now();
    let runs = 0;
    let spent = 0;
    while (runs < WARM_RUNS || spent < batchMs) {
      await call();
      runs += 1;
      spent = performance.now() - begin;
      if (performance.now() - start > WARM_MOST_MS) break;
    }
    const mean = Math.max(spent, clockMs) / runs;
    const steady = mean > STEADY * fastest;
    fastest = Math.min(fastest, mean);
    const total = performance.now() - start;
    if ((steady && total >= least) || total > WARM_MOST_MS) return fastest;
  }
}

async function sample(call, inner) {
  const begin = performance.now();
  for (let i = 0; i < inner; i += 1) await call();
  return Math.max(performance.now() - begin, clockMs) / inner;
}

// Microseconds a call, each the mean of `inner` calls in a row. As on the host, but with a coarse clock `runs` samples
// are taken even where that lasts longer than `most_seconds`.
async function samples(call, inner, job) {
  const taken = [];
  const coarse = STEPS * clockMs > SAMPLE_MS;
  const start = performance.now();
  for (;;) {
    taken.push(micro(await sample(call, inner)));
    const spent = (performance.now() - start) / 1000;
    const enough = taken.length >= job.runs && spent >= job.seconds;
    const over = spent > job.most_seconds && (!coarse || taken.length >= job.runs || spent > 10 * job.most_seconds);
    if (over || (enough && interval(taken) <= job.precision)) return taken;
  }
}

// Windows of about a second without a pause: [seconds since the start, median in us].
async function sustained(call, inner, job) {
  const windows = [];
  const all = [];
  const start = performance.now();
  while (performance.now() - start < 1000 * job.sustained_s) {
    const taken = [];
    const begin = performance.now();
    while (performance.now() - begin < WINDOW_MS) taken.push(micro(await sample(call, inner)));
    windows.push([(performance.now() - start) / 1000, median(taken)]);
    all.push(...taken);
  }
  const every = Math.ceil(all.length / KEPT);
  return { samples_us: all.filter((_, index) => index % every === 0), windows };
}

// The width of the 95 % interval of the median (by order statistics), relative to the median.
function interval(taken) {
  const ordered = [...taken].sort((a, b) => a - b);
  const reach = 0.98 * Math.sqrt(ordered.length);
  const low = Math.floor(ordered.length / 2 - reach);
  const high = Math.ceil(ordered.length / 2 + reach);
  if (low < 0 || high >= ordered.length) return Infinity;
  return (ordered[high] - ordered[low]) / ordered[Math.floor(ordered.length / 2)];
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function micro(ms) {
  return Math.round(1e6 * ms) / 1000;
}

// Seeded normal values (mulberry32, Box-Muller): zeros would make some kernels look fast.
function input(shape, seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  const values = new Float32Array(shape.reduce((product, side) => product * side, 1));
  for (let i = 0; i < values.length; i += 1) {
    values[i] = Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  }
  return new ort.Tensor("float32", values, shape);
}
