// The generator at work in a thread of its own, so that the page answers while it draws.
// The name of this worker says the device, 'wasm' or 'webgpu'. It takes {id, load: {model, channels, pixels}} once
// and then {id, z, count}; it answers {id, ...} or {id, error}.

const RUNTIMES = {
  wasm: { entry: './vendor/ort.wasm.min.mjs', base: './vendor/ort-wasm-simd-threaded' },
  webgpu: { entry: './vendor/ort.webgpu.min.mjs', base: './vendor/ort-wasm-simd-threaded.asyncify' },
};
const device = self.name;
const runtime = loadRuntime(); // at once, while the page still reads what model there is
let session, shape;

async function loadRuntime() {
  const { entry, base } = RUNTIMES[device];
  const [ort, binary] = await Promise.all([import(entry), fetchBytes(`${base}.wasm.gz`, true)]);
  ort.env.wasm.numThreads = 1; // More would need headers that plain file servers do not send.
  ort.env.wasm.wasmPaths = { mjs: new URL(`${base}.mjs`, import.meta.url).href };
  ort.env.wasm.wasmBinary = binary;
  return ort;
}

async function fetchBytes(address, zipped = false) {
  const response = await fetch(new URL(address, import.meta.url));
  if (!response.ok) throw new Error(`${address} cannot be loaded: ${response.status} ${response.statusText}`);
  if (!zipped) return new Uint8Array(await response.arrayBuffer());
  const bytes = new Uint8Array(await response.arrayBuffer());
  // Some servers send .gz as an encoding, and the browser has unpacked it already.
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes.buffer;
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(unpacked).arrayBuffer();
}

async function load({ model, channels, pixels }) {
  const [ort, bytes] = await Promise.all([runtime, fetchBytes(model)]);
  session = await ort.InferenceSession.create(bytes, { executionProviders: [device] });
  shape = { channels, pixels, tensor: ort.Tensor };
}

// Draws images of latents, float32 [count * width]: RGBA, uint8 [count * H * W * 4].
async function draw(z, count) {
  const input = new shape.tensor('float32', z, [count, z.length / count]);
  const { images } = await session.run({ z: input });
  const values = await images.getData();
  const rgba = new Uint8ClampedArray(count * shape.pixels * 4);
  const green = shape.channels > 1 ? 1 : 0;
  for (let from = 0, to = 0; to < rgba.length; from += shape.channels, to += 4) {
    rgba[to] = pixel(values[from]);
    rgba[to + 1] = pixel(values[from + green]);
    rgba[to + 2] = pixel(values[from + 2 * green]);
    rgba[to + 3] = shape.channels === 4 ? pixel(values[from + 3]) : 255;
    if (shape.channels === 4) divide(rgba, to);
  }
  images.dispose();
  return rgba;
}

// Divides the colour of a pixel by its alpha; generators of transparent pictures multiply by it.
function divide(rgba, at) {
  const alpha = rgba[at + 3];
  for (let i = at; i < at + 3; i++) rgba[i] = alpha ? (255 * Math.min(rgba[i], alpha)) / alpha : 0;
}

// From [-1, 1] to 0..255 in single precision. Writing to a Uint8ClampedArray rounds, and rounds halves to even.
const pixel = (value) => Math.fround(Math.fround(value + 1) * 127.5);

self.onmessage = async ({ data }) => {
  try {
    if (data.load) {
      await load(data.load);
      self.postMessage({ id: data.id });
    } else {
      const begin = performance.now();
      const rgba = await draw(data.z, data.count);
      self.postMessage({ id: data.id, rgba, milliseconds: performance.now() - begin }, [rgba.buffer]);
    }
  } catch (error) {
    self.postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};
