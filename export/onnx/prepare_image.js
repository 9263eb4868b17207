// An image file to the numbers that a model takes, by the description in the model's metadata, in a browser.
//
// The browser decodes; what comes then is computed here as Pillow and torch do it, so that the numbers are those of
// prepare_image.py. The browser's own resizing would give others. An image is a source: {width, height, part(left, top,
// width, height)}, RGBA bytes. What is made of it is rows of pixels of three.

export const MOST = 90e6; // pixels that are decoded, at 4 bytes each
const STRIP = 1e6; // pixels that are read from the browser at a time
const BITS = 22; // of Pillow's weights behind the point
const FILTERS = {
  bicubic: { reach: 2, weight: (distance) => cubic(distance, -0.5) },
  bilinear: { reach: 1, weight: (distance) => Math.max(0, 1 - Math.abs(distance)) },
};
const KNOWN = { orientation: ["exif"], color: ["RGB"], filter: Object.keys(FILTERS), antialias: [true] };

// The description in a model's metadata (of the sidecar). Throws where there is none, or it asks for what is not done here.
export function described(metadata) {
  if (metadata.preparation === undefined) {
    throw new Error("the model does not say how images are prepared: an older nasvit-edge wrote it; export it again");
  }
  const found = parsed(metadata.preparation);
  for (const [key, values] of Object.entries(KNOWN)) {
    if (!values.includes(found[key])) {
      throw new Error(
        `the model wants images with ${key} ${JSON.stringify(found[key])}, and this page knows only ` +
          `${values.map((value) => JSON.stringify(value)).join(" and ")}; use the page that was bundled with the model`,
      );
    }
  }
  if (!isSound(found)) throw new Error(DAMAGED);
  return found;
}

const DAMAGED = "what the model says of how images are prepared is damaged; export it again";

function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    throw new Error(DAMAGED);
  }
}

// Whether every number is one that can be computed with.
function isSound({ resize, crop, size, mean, std, range, background }) {
  const are = (values, count, test) => Array.isArray(values) && values.length === count && values.every(test);
  const isSide = (side) => Number.isInteger(side) && side > 0 && side <= 16384;
  const isByte = (value) => Number.isInteger(value) && value >= 0 && value <= 255;
  const whole = isSide(resize) ? [resize, resize] : resize;
  return (
    are(whole, 2, isSide) &&
    are(crop, 2, (side, axis) => isSide(side) && side <= whole[axis]) &&
    are(size, 2, isSide) &&
    are(mean, 3, Number.isFinite) &&
    are(std, 3, (value) => Number.isFinite(value) && value > 0) &&
    are(range, 2, Number.isFinite) &&
    are(background, 3, isByte)
  );
}

// An image file (a Blob) to what the model takes: floats, height * width * 3.
export async function prepared(blob, preparation) {
  const source = await decoded(blob, preparation);
  try {
    return normalised(inputValues(cropped(source, preparation), preparation), preparation);
  } finally {
    source.close();
  }
}

// An image file decoded: upright, profiles not applied, over the background. Call close() when done.
export async function decoded(blob, preparation) {
  const options = { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" };
  const { file, turn } = await unturned(blob);
  const bitmap = await createImageBitmap(file, options).catch((error) => {
    throw new Error(`this browser cannot read the image (${error.message || error})`);
  });
  const [width, height] = turn > 4 ? [bitmap.height, bitmap.width] : [bitmap.width, bitmap.height];
  if (width * height > MOST) {
    bitmap.close();
    throw new Error(`${width} x ${height} pixels are too many: at most ${MOST / 1e6} megapixels are taken; make it smaller`);
  }
  let canvas = null;
  const part = (left, top, wide, tall) => {
    if (!canvas || canvas.width !== wide || canvas.height < tall) canvas = newCanvas(wide, tall);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = `rgb(${preparation.background})`;
    context.fillRect(0, 0, wide, tall);
    const [a, b, c, d, e, f] = TURNS[turn](width, height);
    context.setTransform(a, b, c, d, e - left, f - top);
    context.imageSmoothingEnabled = false;
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, wide, tall).data;
  };
  return { width, height, part, close: () => bitmap.close() };
}

// What turns an image upright that is `width` x `height` then, by EXIF's number: a canvas' transform.
const TURNS = {
  1: () => [1, 0, 0, 1, 0, 0],
  2: (width) => [-1, 0, 0, 1, width, 0],
  3: (width, height) => [-1, 0, 0, -1, width, height],
  4: (width, height) => [1, 0, 0, -1, 0, height],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (width) => [0, 1, -1, 0, width, 0],
  7: (width, height) => [0, -1, -1, 0, width, height],
  8: (width, height) => [0, -1, 1, 0, 0, height],
};

function newCanvas(width, height) {
  if (globalThis.OffscreenCanvas) return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

// The file, and how it is to be turned: a WebP file says it in a part that not all browsers read, so that none is left it.
export async function unturned(blob) {
  const head = new Uint8Array(await blob.slice(0, 12).arrayBuffer());
  if (text(head, 0) !== "RIFF" || text(head, 8) !== "WEBP") return { file: blob, turn: 1 };
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const view = new DataView(bytes.buffer);
  for (let place = 12; place + 8 <= bytes.length; ) {
    const length = view.getUint32(place + 4, true);
    if (text(bytes, place) === "EXIF") return turnOf(bytes, view, place + 8, Math.min(place + 8 + length, bytes.length));
    place += 8 + length + (length % 2);
  }
  return { file: blob, turn: 1 };
}

// Of EXIF data from `start` until `end`: the orientation, and the file with it set to upright.
function turnOf(bytes, view, start, end) {
  const first = text(bytes, start) === "Exif" ? start + 6 : start;
  const little = text(bytes, first).startsWith("II");
  const at = (place, size) => {
    if (place + size > end) throw new RangeError("cut short");
    return size === 2 ? view.getUint16(place, little) : view.getUint32(place, little);
  };
  try {
    const table = first + at(first + 4, 4);
    for (let i = 0; i < at(table, 2); i += 1) {
      const entry = table + 2 + 12 * i;
      if (at(entry, 2) !== 0x0112) continue;
      const turn = at(entry + 8, 2);
      view.setUint16(entry + 8, 1, little);
      return { file: new Blob([bytes]), turn: turn in TURNS ? turn : 1 };
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // damaged EXIF: the picture is whole
  }
  return { file: new Blob([bytes]), turn: 1 };
}

function text(bytes, place) {
  return String.fromCharCode(...bytes.subarray(place, place + 4));
}

// Width and height that the whole image is resized to, and left and top of the crop in that.
export function geometry(width, height, preparation) {
  const { resize, crop } = preparation;
  const shorter = Math.min(width, height);
  const whole = (side) => Math.floor((resize * side) / shorter);
  const [tall, wide] = Array.isArray(resize) ? resize : [whole(height), whole(width)];
  return { width: wide, height: tall, left: half(wide - crop[1]), top: half(tall - crop[0]) };
}

// Half of it; of two whole numbers equally near the even one.
function half(free) {
  return (free + ((free >> 1) & 1)) >> 1;
}

// Outputs `first` until `first + count` of `length` pixels resized to `resized`, as Pillow does: wider when it shrinks.
export function taps(filter, length, resized, first, count) {
  const { reach, weight } = FILTERS[filter];
  const scale = length / resized;
  const wider = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach * wider + 0.5));
    const end = Math.min(length, Math.trunc(centre + reach * wider + 0.5));
    const weights = new Float64Array(end - start).map((_, j) => weight((start + j - centre + 0.5) / wider));
    const sum = weights.reduce((total, part) => total + part, 0);
    return { start, end, weights: Int32Array.from(weights, (part) => fixed(part / sum)) };
  });
}

// A weight as a whole number, halves away from zero.
function fixed(weight) {
  return Math.trunc(weight * 2 ** BITS + Math.sign(weight) / 2);
}

// The bicubic kernel.
function cubic(distance, a) {
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// An image to the bytes of `crop`.
export function cropped(source, preparation) {
  const [rows, columns] = preparation.crop;
  const at = geometry(source.width, source.height, preparation);
  const across = taps(preparation.filter, source.width, at.width, at.left, columns);
  const down = taps(preparation.filter, source.height, at.height, at.top, rows);
  const first = down[0].start;
  const narrow = narrowed(source, across, first, down[rows - 1].end);
  const result = new Uint8ClampedArray(rows * columns * 3);
  const row = columns * 3;
  down.forEach(({ start, weights }, y) => {
    for (let i = 0; i < row; i += 1) result[y * row + i] = sum(narrow, (start - first) * row + i, row, weights);
  });
  return result;
}

// The rows from `first` until `last` of an image, each resized; they are read a strip at a time.
function narrowed(source, across, first, last) {
  const [left, right] = [across[0].start, across.at(-1).end];
  const narrow = new Uint8ClampedArray((last - first) * across.length * 3);
  const strip = Math.max(1, Math.floor(STRIP / (right - left)));
  let place = 0;
  for (let top = first; top < last; top += strip) {
    const count = Math.min(strip, last - top);
    const bytes = source.part(left, top, right - left, count);
    for (let y = 0; y < count; y += 1) {
      for (const { start, weights } of across) {
        const from = 4 * (y * (right - left) + start - left);
        for (let channel = 0; channel < 3; channel += 1, place += 1) {
          narrow[place] = sum(bytes, from + channel, 4, weights);
        }
      }
    }
  }
  return narrow;
}

// Every `step`-th byte from a place on, weighted; rounded.
function sum(bytes, from, step, weights) {
  let total = 1 << (BITS - 1);
  for (let i = 0, place = from; i < weights.length; i += 1, place += step) total += weights[i] * bytes[place];
  return total >> BITS;
}

// Bytes of `crop` to `size`: floats from 0 to 255, a little beyond where they are resized.
export function inputValues(crop, preparation) {
  const [height, width] = preparation.crop;
  const [rows, columns] = preparation.size;
  const tall = resizedFloats(Float32Array.from(crop), { length: height, size: rows, step: width * 3, lines: 1 });
  return resizedFloats(tall, { length: width, size: columns, step: 3, lines: rows });
}

// One axis of `lines` blocks of length * step values to another size: bicubic with a = -0.75, edges repeated.
function resizedFloats(values, { length, size, step, lines }) {
  if (length === size) return values;
  const result = new Float32Array(lines * size * step);
  for (let i = 0; i < size; i += 1) {
    for (const [place, weight] of sharpTaps(length, size, i)) {
      for (let line = 0; line < lines; line += 1) {
        const [from, to] = [(line * length + place) * step, (line * size + i) * step];
        for (let k = 0; k < step; k += 1) result[to + k] += weight * values[from + k];
      }
    }
  }
  return result;
}

function sharpTaps(length, size, i) {
  const centre = ((i + 0.5) * length) / size - 0.5;
  return [-1, 0, 1, 2].map((tap) => {
    const place = Math.floor(centre) + tap;
    return [Math.min(Math.max(place, 0), length - 1), cubic(centre - place, -0.75)];
  });
}

// Values from 0 to 255 to `range`, minus `mean`, over `std`.
export function normalised(values, { range, mean, std }) {
  const [low, high] = range;
  return values.map((value, i) => ((value * (high - low)) / 255 + low - mean[i % 3]) / std[i % 3]);
}
