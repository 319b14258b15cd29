// JAX's random numbers: threefry2x32 with "partitionable" bits, as jax.random draws them by default.
// Keys are pairs of unsigned 32-bit numbers. Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]];
const ROUNDS = 5;
const PARITY = 0x1bd11bda;

// Encrypts the pair [x0, x1] with the key [k0, k1].
export function threefry([k0, k1], [x0, x1]) {
  const keys = [k0, k1, k0 ^ k1 ^ PARITY];
  let a = (x0 + k0) | 0;
  let b = (x1 + k1) | 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const rotation of ROTATIONS[round % 2]) {
      a = (a + b) | 0;
      b = ((b << rotation) | (b >>> (32 - rotation))) ^ a;
    }
    a = (a + keys[(round + 1) % 3]) | 0;
    b = (b + keys[(round + 2) % 3] + round + 1) | 0;
  }
  return [a >>> 0, b >>> 0];
}

// jax.random.key(seed), for 0 <= seed < 2**32.
export const key = (seed) => [0, seed >>> 0];

// jax.random.fold_in(key, number), for 0 <= number < 2**32.
export const foldIn = (k, number) => threefry(k, [0, number >>> 0]);

// jax.random.split(key)
export const split = (k) => [threefry(k, [0, 0]), threefry(k, [0, 1])];

// jax.random.bits(key, (count,), 'uint32')
export function bits(k, count) {
  const drawn = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const [a, b] = threefry(k, [0, i]);
    drawn[i] = a ^ b;
  }
  return drawn;
}

// Numbers in [0, 1), multiples of 2**-23.
const fractions = (k, count) => Float32Array.from(bits(k, count), (word) => (word >>> 9) / 2 ** 23);

// jax.random.uniform(key, (count,), minval=-1, maxval=1)
export const uniform = (k, count) => fractions(k, count).map((x) => 2 * x - 1);

// jax.random.normal(key, (count,))
export function normal(k, count) {
  const least = -1 + 2 ** -24; // the float32 after -1
  return fractions(k, count).map((x) => Math.SQRT2 * erfinv(Math.max(least, Math.fround(2 * x + least))));
}

// jax.random.randint(key, (), 0, count), for 0 < count <= 2**16
export function randint(k, count) {
  const [high, low] = split(k).map((half) => bits(half, 1)[0] % count);
  const multiplier = (2 ** 16 % count) ** 2 % count;
  return ((high * multiplier) % count + low) % count;
}

// Giles 2010, "Approximating the erfinv function", in single precision, which is what XLA computes.
const CENTRE = [
  2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 2.1858087e-4, -1.25372503e-3, -4.17768164e-3,
  0.246640727, 1.50140941,
];
const TAIL = [
  -2.00214257e-4, 1.00950558e-4, 1.34934322e-3, -3.67342844e-3, 5.73950773e-3, -7.6224613e-3, 9.43887047e-3,
  1.00167406, 2.83297682,
];

function erfinv(x) {
  const w = -Math.log1p(-Math.fround(x * x));
  const [coefficients, v] = w < 5 ? [CENTRE, w - 2.5] : [TAIL, Math.sqrt(w) - 3];
  return coefficients.reduce((sum, coefficient) => sum * v + coefficient) * x;
}
