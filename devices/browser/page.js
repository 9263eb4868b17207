"use strict";
// Asks for jobs, has them measured in a worker (runner.js), sends the answers; finds the host again when it was away.

const BEAT_MS = 10000;
const ASK_MS = 40000; // a question for a job is answered within 20 s
const MODEL_MS = 100000; // the host gives a model up after 120 s
const BACK_OFF_MS = [500, 15000];

const page = Object.fromEntries(["state", "count", "now", "lock", "warning", "facts", "log"].map((id) => [id, document.getElementById(id)]));
let measured = 0;
let worker = null;
let workerKey = "";
let hides = document.hidden ? 1 : 0;
let locked = null;

// Nothing more to do on this page.
class Over extends Error {
  constructor(message, state = "failed") {
    super(message);
    this.state = state;
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) hides += 1;
  else keepAwake();
});

main().catch((error) => {
  page.now.textContent = "";
  if (worker) worker.terminate();
  if (locked) locked.release();
  if (error instanceof Over) show(error.state, error.message);
  else show("failed", `This page cannot go on: ${error.message || error}`);
});

async function main() {
  const description = await describe();
  facts({ ...description.about, ...description.conditions });
  warn(description.conditions);
  await keepAwake();
  let session = null;
  for (;;) {
    if (session === null) session = await hello(description);
    show("waiting", "Connected. Waiting for the next model …");
    const answer = await request(`job?session=${session}`, {}, ASK_MS);
    if (answer.status === 410) throw done();
    if (answer.status === 409) throw new Over("Another page measures this device now. Reload this one to take over.");
    if (answer.status !== 200) {
      if (answer.status !== 204) await pause(1000);
      continue;
    }
    const job = await answer.json();
    const found = await withBeats(session, () => answered(job));
    await deliver(session, { ...found, id: job.id, nonce: job.nonce });
    log(job.id, found);
  }
}

function done() {
  return new Over("Done. All is measured: you can close this page.", "done");
}

async function hello(description) {
  for (;;) {
    const answer = await request("hello", { method: "POST", body: JSON.stringify(description) }, ASK_MS);
    if (answer.status === 200) return (await answer.json()).session;
    if (answer.status === 410) throw done();
    show("waiting", `Not this device now: ${await answer.text()}`);
    await pause(3000);
  }
}

async function deliver(session, answer) {
  const body = JSON.stringify(answer);
  for (;;) {
    const told = await request(`result?session=${session}`, { method: "POST", body }, ASK_MS);
    if (told.status !== 503) return; // kept; or it counts no more, and the next job comes
    await pause(1000);
  }
}

// The answer to a request, tried again until there is one.
async function request(path, options, patience) {
  let wait = BACK_OFF_MS[0];
  for (;;) {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), patience);
    try {
      const answer = await fetch(path, { ...options, cache: path.startsWith("file/") ? "default" : "no-store", signal: stop.signal });
      if (answer.status === 404 && !path.startsWith("file/")) throw new Over("This run has ended. For another one, scan the new code.");
      if (path.startsWith("file/")) return await content(answer, path);
      return answer;
    } catch (error) {
      if (error instanceof Over) throw error;
      show("lost", `Connection lost, trying again. Is this device still in the same network? (${error.message || error})`);
      await pause(wait);
      wait = Math.min(2 * wait, BACK_OFF_MS[1]);
    } finally {
      clearTimeout(timer);
    }
  }
}

async function content(answer, path) {
  if (answer.status !== 200) return null; // not of the current job any more
  const bytes = await answer.arrayBuffer();
  if (globalThis.crypto && crypto.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const hex = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    if (!path.endsWith(hex)) throw new Error("a model arrived damaged");
  }
  return bytes;
}

// A measurement of a job without what the page was hidden for, or {error}.
async function answered(job) {
  page.now.textContent = `now: ${job.id}`;
  const model = await request(`file/${job.files[0].sha256}`, {}, 300000);
  if (model === null) return { error: "the model is not served any more" };
  for (;;) {
    await visible();
    show("measuring", "Measuring …");
    const before = hides;
    const found = await timed(job, model);
    if (hides === before) return found;
  }
}

async function timed(job, model) {
  const limit = MODEL_MS + 1000 * (job.sustained_s || 0);
  try {
    const key = `${job.runtime} ${job.threads}`;
    if (key !== workerKey) {
      restart();
      const started = await ask({ type: "start", runtime: job.runtime, threads: job.threads }, [], limit);
      if (started.error) throw new Error(`the runtime does not load: ${started.error}`);
      workerKey = key;
    }
    return await ask({ type: "measure", job, model }, [], limit);
  } catch (error) {
    restart();
    return { error: String(error.message || error).slice(0, 300) };
  }
}

function restart() {
  if (worker) worker.terminate();
  worker = new Worker("runner.js");
  workerKey = "";
}

function ask(message, transfer, limit) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer in ${limit / 1000} s`)), limit);
    worker.onmessage = ({ data }) => { clearTimeout(timer); resolve(data); };
    worker.onerror = (event) => { clearTimeout(timer); reject(new Error(event.message || "the runtime crashed")); };
    worker.postMessage(message, transfer);
  });
}

async function withBeats(session, work) {
  const beat = () => fetch(`beat?session=${session}`, { method: "POST" }).catch(() => null);
  const timer = setInterval(beat, BEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}

async function visible() {
  while (document.hidden) {
    show("hidden", "Paused: bring this page to the front, and the model is measured again.");
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

async function keepAwake() {
  try {
    locked = await navigator.wakeLock.request("screen");
    page.lock.textContent = " (this page holds it on)";
  } catch {
    page.lock.textContent = "; set the screen's time-out to its longest";
  }
}

async function describe() {
  const runtimes = { "onnxruntime-web": await version() };
  if (await adapter()) runtimes["onnxruntime-webgpu"] = runtimes["onnxruntime-web"];
  const conditions = { isolated: !!globalThis.crossOriginIsolated, secure: !!globalThis.isSecureContext };
  if (navigator.getBattery) {
    const battery = await navigator.getBattery().catch(() => null);
    if (battery) Object.assign(conditions, { battery_percent: Math.round(100 * battery.level), charging: battery.charging });
  }
  return { id: "hello", about: about(), busy_cores: null, conditions, runtimes, install: install() };
}

async function version() {
  const text = await (await request("ort/ort.wasm.min.js", {}, ASK_MS)).text();
  const found = /ONNX Runtime Web v([\w.-]+)/.exec(text);
  return found ? found[1] : "unknown";
}

async function adapter() {
  const found = navigator.gpu && (await navigator.gpu.requestAdapter().catch(() => null));
  return !!found;
}

// The same at every visit: the browser's first word is kept, as a renderer may be told once and not the next time.
function about() {
  const agent = navigator.userAgent;
  const kept = recall("about");
  if (kept && kept.agent === agent) return kept;
  const system = /\(([^)]*)\)/.exec(agent);
  const found = {
    board: system ? system[1] : agent,
    soc: renderer(),
    architecture: navigator.platform || "",
    cores: navigator.hardwareConcurrency || 0,
    memory_gb: navigator.deviceMemory || 0,
    screen: [screen.width, screen.height].sort((a, b) => a - b).join("x"),
    agent,
  };
  const told = Object.fromEntries(Object.entries(found).filter(([, value]) => value));
  keep("about", told);
  return told;
}

function renderer() {
  try {
    const context = document.createElement("canvas").getContext("webgl");
    const more = context.getExtension("WEBGL_debug_renderer_info");
    return String(context.getParameter(more ? more.UNMASKED_RENDERER_WEBGL : context.RENDERER)).slice(0, 200);
  } catch {
    return "";
  }
}

// Tells two devices of one kind apart; chosen anew for every run, as the address is.
function install() {
  const kept = recall("install");
  if (kept) return kept;
  const made = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  keep("install", made);
  return made;
}

function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch { /* private windows may keep nothing */ }
}

function warn({ isolated, secure }) {
  if (isolated && secure) return;
  page.warning.hidden = false;
  page.warning.textContent = "This page came over plain HTTP: one thread, no WebGPU, and a clock of 0.1 to 1 ms, for which every sample is made long enough. Started with --tls, nasvit-edge offers threads and WebGPU.";
}

function facts(values) {
  for (const [name, value] of Object.entries(values)) {
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name.replaceAll("_", " ");
    text.textContent = String(value);
    page.facts.append(term, text);
  }
}

function log(id, found) {
  if (!found.error) page.count.textContent = String((measured += 1));
  const line = document.createElement("li");
  const middle = found.error ? found.error : `${(found.samples_us.slice().sort((a, b) => a - b)[found.samples_us.length >> 1] / 1000).toPrecision(3)} ms`;
  line.textContent = `${middle}  ${id}`;
  page.log.prepend(line);
  while (page.log.children.length > 5) page.log.lastChild.remove();
}

function show(state, text) {
  page.state.dataset.state = state;
  page.state.textContent = text;
  document.title = state === "done" ? "Done" : "nasvit-edge: measuring this device";
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
