// Computes what each line of standard input asks for; fields between spaces, numbers between commas. One line an answer.

import { readFileSync } from "node:fs";
import { cropped, described, geometry, inputValues, normalised, taps } from "./prepare_image.js";
import { planes, softmax, topFive } from "./classify.js";

const numbers = (text) => text.split(",").map(Number);
const side = (text) => (text.includes(",") ? numbers(text) : Number(text));

// A row of bytes by the weights of Pillow.
function row(bytes, size, first, count) {
  return taps("bicubic", bytes.length, size, first, count).map(({ start, weights }) => {
    const total = weights.reduce((sum, weight, i) => sum + weight * bytes[start + i], 2 ** 21);
    return Math.min(255, Math.max(0, total >> 22));
  });
}

const thirds = (values) => [...values].filter((_, i) => i % 3 === 0);

function image(path, size, resize, crop, target, filter = "bicubic") {
  const [width, height] = numbers(size);
  const rgba = readFileSync(path);
  const part = (left, top, wide, tall) => {
    const rows = Array.from({ length: tall }, (_, y) => rgba.subarray(4 * ((top + y) * width + left), 4 * ((top + y) * width + left + wide)));
    return Buffer.concat(rows);
  };
  return [{ width, height, part }, { resize: side(resize), crop: numbers(crop), size: numbers(target), filter }];
}

const OPERATIONS = {
  geometry: (size, resize, crop) => {
    const at = geometry(...numbers(size), { resize: side(resize), crop: numbers(crop) });
    return [at.width, at.height, at.left, at.top];
  },
  bicubic: (bytes, size, first, count) => row(numbers(bytes), Number(size), Number(first), Number(count)),
  floats: (values, size) => {
    const crop = numbers(values).flatMap((v) => [v, v, v]);
    return thirds(inputValues(crop, { crop: [1, crop.length / 3], size: [1, Number(size)] }));
  },
  normalise: (values, mean, std, range) =>
    normalised(Float32Array.from(numbers(values)), { mean: numbers(mean), std: numbers(std), range: numbers(range) }),
  softmax: (logits) => softmax(numbers(logits)),
  five: (logits) => topFive(softmax(numbers(logits))),
  planes: (values) => planes(numbers(values)),
  described: (path) => {
    try {
      const { resize, crop, size, filter } = described({ preparation: readFileSync(path, "utf8") });
      return [resize, crop, size, filter].map((value) => [value].flat().join("x"));
    } catch (error) {
      return [`error: ${error.message}`];
    }
  },
  crop: (...fields) => cropped(...image(...fields)),
  values: (...fields) => {
    const [source, preparation] = image(...fields);
    return inputValues(cropped(source, preparation), preparation);
  },
};

for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const [name, ...fields] = line.split(" ");
  console.log([...OPERATIONS[name](...fields)].join(","));
}
