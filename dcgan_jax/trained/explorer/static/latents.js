// Latents as dcgan_jax/core/latents.py draws and combines them. A latent is a Float32Array: z and, if the generator is
// told classes, the weight of each class after it.

import { foldIn, key, normal, randint, uniform } from './threefry.js';

// The latent of image `index` of a seed: the picture that `--mode=sample` draws. `spec` is {size, prior, classes},
// with a list of names as classes. A given class replaces the one that is drawn.
export function draw(seed, index, spec, given = null) {
  const root = key(seed);
  const noise = (spec.prior === 'uniform' ? uniform : normal)(foldIn(root, index), spec.size);
  const count = spec.classes.length;
  if (!count) return noise;
  const number = given ?? randint(foldIn(foldIn(root, 2 ** 32 - 1), index), count);
  return ofClass(noise, number, spec);
}

// The same z told another class.
export function ofClass(z, number, spec) {
  const told = new Float32Array(spec.size + spec.classes.length);
  told.set(z.subarray(0, spec.size));
  told[spec.size + number] = 1;
  return told;
}

export const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
export const norm = (a) => Math.sqrt(dot(a, a));
const scaled = (a, factor) => a.map((x) => x * factor);
const plus = (a, b, factor = 1) => a.map((x, i) => x + factor * b[i]);
const wide = (a) => Float64Array.from(a); // sums and angles are computed with double precision
const unit = (a) => scaled(a, 1 / Math.max(norm(a), 1e-300));

export function mean(latents) {
  const sum = new Float64Array(latents[0].length);
  for (const latent of latents) latent.forEach((x, i) => (sum[i] += x));
  return Float32Array.from(sum, (x) => x / latents.length);
}

// mean(plus) - mean(minus) + mean(plus2); section 6.3.2 of the paper.
export function arithmetic(added, subtracted, added2) {
  const [a, b, c] = [added, subtracted, added2].map(mean);
  return a.map((x, i) => x - b[i] + c[i]);
}

export const lerp = (a, b, t) => Float32Array.from(a, (x, i) => (1 - t) * x + t * b[i]);

// Direction and length both change evenly from those of a to those of b.
export function slerp(a, b, t) {
  const [u, v] = [unit(wide(a)), unit(wide(b))];
  const angle = 2 * Math.atan2(norm(plus(u, v, -1)), norm(plus(u, v)));
  const across = perpendicular(u, v);
  const length = (1 - t) * norm(wide(a)) + t * norm(wide(b));
  return Float32Array.from(u, (x, i) => length * (Math.cos(t * angle) * x + Math.sin(t * angle) * across[i]));
}

// The unit vector perpendicular to the unit vector u, on v's side; any such vector if they are parallel.
export function perpendicular(u, v) {
  let towards = plus(v, u, -dot(u, v));
  if (norm(towards) < 1e-12) {
    towards = new Float64Array(u.length);
    towards[u.reduce((least, x, i) => (Math.abs(x) < Math.abs(u[least]) ? i : least), 0)] = 1;
  }
  for (let i = 0; i < 2; i++) towards = unit(plus(towards, u, -dot(u, towards)));
  return towards;
}

// A point on the way from a to b: spherical for normal latents, linear for uniform ones and between classes.
export function between(a, b, t, spec) {
  const z = (spec.prior === 'uniform' ? lerp : slerp)(a.subarray(0, spec.size), b.subarray(0, spec.size), t);
  return spec.classes.length ? join(z, lerp(a.subarray(spec.size), b.subarray(spec.size), t)) : z;
}

function join(z, weights) {
  const whole = new Float32Array(z.length + weights.length);
  whole.set(z);
  whole.set(weights, z.length);
  return whole;
}

// Two random directions for a map around a latent: perpendicular to each other and, on the sphere, to the latent.
export function directionsAround(latent, seed, spec) {
  const z = unit(wide(latent.subarray(0, spec.size)));
  const first = perpendicular(z, unit(wide(normal(foldIn(key(seed), 0), spec.size))));
  let second = wide(normal(foldIn(key(seed), 1), spec.size));
  for (let i = 0; i < 2; i++) second = plus(plus(second, z, -dot(z, second)), first, -dot(first, second));
  return [first, unit(second)];
}

// The latent at (x, y) of the map around a latent, each from -1 to 1. Normal latents keep their length: the way
// from the centre follows a great circle, a quarter of it to the edge, where the latent is perpendicular to
// that in the centre. Uniform latents go straight and turn back at the limits of the prior, -1 and 1.
export function around(latent, [first, second], x, y, spec) {
  const z = wide(latent.subarray(0, spec.size));
  const weights = latent.subarray(spec.size);
  const distance = Math.hypot(x, y);
  if (!distance) return Float32Array.from(latent);
  const direction = plus(scaled(first, x / distance), second, y / distance);
  if (spec.prior === 'uniform') {
    const reach = Math.sqrt(spec.size / 3); // the length of a typical uniform latent
    return join(Float32Array.from(plus(z, direction, distance * reach), folded), weights);
  }
  const angle = (distance * Math.PI) / 2;
  const length = norm(z);
  const moved = plus(scaled(z, Math.cos(angle)), direction, length * Math.sin(angle));
  return join(Float32Array.from(moved), weights);
}

// A number beyond -1 or 1, reflected there as often as is needed.
const folded = (x) => Math.abs((((x - 1) % 4) + 4) % 4 - 2) - 1;

// The corners of the triangle on the map between three latents.
export const CORNERS = [[0, 0.72], [-0.72, -0.62], [0.72, -0.62]];

// The latent at (x, y) of the map between three: the plane through them, at the length that is theirs.
export function amongThree(latents, x, y, spec) {
  const shares = barycentric(x, y);
  const sum = latents.reduce((all, latent, i) => plus(all, latent, shares[i]), new Float64Array(latents[0].length));
  const z = sum.subarray(0, spec.size);
  const inside = shares.map((share) => Math.max(share, 0));
  const total = inside.reduce((a, b) => a + b);
  if (spec.prior === 'normal') {
    const lengths = latents.map((latent) => norm(wide(latent.subarray(0, spec.size))));
    const length = lengths.reduce((all, one, i) => all + (one * inside[i]) / total, 0);
    z.set(scaled(unit(z), length));
  } else {
    z.set(z.map(folded));
  }
  // Classes are mixed in shares that are never negative.
  const weights = new Float32Array(sum.length - spec.size);
  latents.forEach((latent, i) => {
    latent.subarray(spec.size).forEach((weight, j) => (weights[j] += (weight * inside[i]) / total));
  });
  return join(Float32Array.from(z), weights);
}

function barycentric(x, y) {
  const [[ax, ay], [bx, by], [cx, cy]] = CORNERS;
  const area = (by - cy) * (ax - cx) + (cx - bx) * (ay - cy);
  const a = ((by - cy) * (x - cx) + (cx - bx) * (y - cy)) / area;
  const b = ((cy - ay) * (x - cx) + (ax - cx) * (y - cy)) / area;
  return [a, b, 1 - a - b];
}

// A latent moved along directions, each by its own amount. Normal latents keep their length.
export function moved(latent, directions, amounts, spec) {
  let z = wide(latent.subarray(0, spec.size));
  const length = norm(z);
  directions.forEach((direction, i) => {
    if (amounts[i]) z = plus(z, direction, amounts[i]);
  });
  if (spec.prior === 'normal' && amounts.some(Boolean)) z = scaled(unit(z), length);
  return join(Float32Array.from(z), latent.subarray(spec.size));
}
